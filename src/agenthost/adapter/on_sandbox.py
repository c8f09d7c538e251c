"""A guest in any Sandbox: what is needed is derived from ``write_file``, ``exec`` and ``spawn``."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from agenthost.adapter.provider import GuestProvider
from agenthost.errors import AgentHostError, BootstrapError, SandboxNotFoundError
from agenthost.link.carriers.stdio import open_process_carrier
from agenthost.link.client import GuestSandbox
from agenthost.link.layout import GuestLayout
from agenthost.sandbox import Backend, Boot, Capabilities, Carrier, Sandbox, SandboxInfo
from agenthost.spec import SandboxSpec
from agenthost.wire.fields import WRONG_SHAPE
from agenthost.wire.json_bounds import load_json

_LOOK = 30.0  # seconds for a look around inside
_LEAVING = 10.0  # seconds that taking the guest away may take
_START = 60.0  # seconds until ``guest start`` has to return

# Runs under whatever Python 3 there is, so it stays old-fashioned.
_PREFLIGHT = """
import importlib.util, json, os, platform, shutil, sys
print(json.dumps({
    "python": sys.executable, "version": list(sys.version_info[:2]), "uid": os.getuid(),
    "home": os.path.expanduser("~"), "sdk": importlib.util.find_spec("claude_agent_sdk") is not None,
    "bash": shutil.which("bash") is not None, "libc": platform.libc_ver(),
}))
"""

# The guest says that it will end before it has.
_TIDY = 'while [ -n "$1" ] && kill -0 "$1" 2>/dev/null; do sleep 0.02; done; rm -rf "$2"'


class SandboxBackend:
    """The Backend of a sandbox that has its own exec: boot by ``guest start``, dial by ``guest dial``."""

    def __init__(self, sandbox: Sandbox, boot: Boot, boot_dir: str, python: str) -> None:
        self._sandbox = sandbox
        self._boot = boot
        self._dir = boot_dir
        self._python = python

    async def boot(self) -> None:
        """Put the files and start the guest, which detaches itself."""
        for name, data in self._boot.files.items():
            await self._sandbox.write_file(f"{self._dir}/{name}", data, mode=0o600)
        argv = [self._python, "-I", f"{self._dir}/guest.pyz", "start"]
        argv += ["--boot", f"{self._dir}/boot.json", "--socket", f"{self._dir}/guest.sock"]
        result = await self._sandbox.exec(argv, timeout=_START)
        if result.exit_code != 0:
            tail = result.stderr[-2000:].decode(errors="replace").strip()
            raise BootstrapError(f"the guest did not start in sandbox {self._sandbox.name}: {tail}")

    async def dial(self) -> Carrier:
        """Join a ``dial`` program's stdin and stdout."""
        argv = [self._python, "-I", f"{self._dir}/guest.pyz", "dial", "--socket", f"{self._dir}/guest.sock"]
        return await open_process_carrier(self._sandbox.spawn(argv))

    async def info(self) -> SandboxInfo:
        """Ask the sandbox."""
        return await self._sandbox.info()

    async def terminate(self) -> None:
        """End the sandbox."""
        await self._sandbox.terminate()


class _Borrowed(SandboxBackend):
    """The same in a sandbox that somebody else made and will end."""

    async def terminate(self) -> None:
        """Leave the sandbox as it was; its owner ends it."""


class _OnSandbox(GuestProvider):
    """Makes one guest, in a sandbox that somebody else made."""

    def __init__(self, sandbox: Sandbox, seen: dict[str, Any]) -> None:
        super().__init__()
        self.name = sandbox.provider
        self.capabilities: Capabilities = sandbox.capabilities
        self._sandbox = sandbox
        self._seen = seen
        self.boot_dir = f"{seen['home'].rstrip('/')}/.agenthost-{secrets.token_hex(6)}"

    def check(self, spec: SandboxSpec) -> None:
        """Nothing is asked for: the sandbox is there."""

    def layout(self, spec: SandboxSpec) -> GuestLayout:  # noqa: ARG002 - what is there decides, not the spec
        """Tell what was seen inside."""
        return GuestLayout(
            workdir=self._sandbox.workdir,
            home=self._seen["home"],
            spool_dir=f"{self.boot_dir}/spool",
            boot_dir=self.boot_dir,
            python=self._seen["python"],
            site_dirs=(),
            isolation=self.capabilities.isolation,
            user_is_root=self._seen["uid"] == 0,
        )

    async def make(self, spec: SandboxSpec, boot: Boot) -> Backend:  # noqa: ARG002 - it is made already
        """Return the backend."""
        return _Borrowed(self._sandbox, boot, self.boot_dir, self._seen["python"])

    async def _make_owned(self, spec: SandboxSpec, boot: Boot, name: str) -> Backend:
        del name  # the sandbox's owner is who made it
        return await self.make(spec, boot)

    async def reach(self, sandbox_id: str) -> Backend:
        """Never: there is just the one."""
        raise SandboxNotFoundError(f"{sandbox_id}: this provider knows only the sandbox that it was given")

    async def list(self, labels: object = None) -> AsyncGenerator[SandboxInfo]:
        """Yield the one sandbox."""
        del labels
        yield await self._sandbox.info()


@asynccontextmanager
async def guest_on(sandbox: Sandbox) -> AsyncGenerator[GuestSandbox]:
    """Have a guest run in ``sandbox`` and yield it. Leaving the block takes the guest away again.

    Raises:
        BootstrapError: There is no Python 3.10, or the guest does not start.
    """
    if isinstance(sandbox, GuestSandbox):
        yield sandbox
        return
    seen = await _look_around(sandbox)
    async with _OnSandbox(sandbox, seen) as provider:
        guest: GuestSandbox | None = None
        try:
            guest = await provider.create(SandboxSpec(name=sandbox.name))
            yield guest
        finally:
            with anyio.move_on_after(_LEAVING, shield=True), contextlib.suppress(AgentHostError):
                pid = "" if guest is None else str(await guest.session.call("stop", {}))
                await sandbox.exec(["sh", "-c", _TIDY, "sh", pid, provider.boot_dir])


async def _look_around(sandbox: Sandbox) -> dict[str, Any]:
    try:
        result = await sandbox.exec(["python3", "-c", _PREFLIGHT], timeout=_LOOK)
    except FileNotFoundError as exc:
        raise BootstrapError(f"sandbox {sandbox.name} has no python3: an agent needs 3.10 or newer") from exc
    if result.exit_code != 0:
        tail = result.stderr[-500:].decode(errors="replace").strip()
        raise BootstrapError(f"python3 does not work in sandbox {sandbox.name}: {tail}")
    try:
        seen: dict[str, Any] = load_json(result.stdout)
        version = ".".join(map(str, seen["version"]))
        is_old = tuple(seen["version"]) < (3, 10)
        found = {"home": str(seen["home"]), "python": str(seen["python"]), "uid": int(seen["uid"])}
    except WRONG_SHAPE as error:
        what = f"python3 in sandbox {sandbox.name} does not tell what it is"
        raise BootstrapError(f"{what}: {error!r:.200}") from error
    if is_old:
        raise BootstrapError(f"sandbox {sandbox.name} has Python {version}; an agent needs 3.10 or newer")
    return {**seen, **found}

"""The ``local-unisolated`` provider: plain processes of this user. Chosen by name, never fallen back to."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping

from agenthost.adapter.provider import GuestProvider
from agenthost.errors import UnsupportedError
from agenthost.link.carriers.socket import connect_unix
from agenthost.link.layout import GuestLayout
from agenthost.providers.local.checks import check_common, check_options
from agenthost.providers.local.engine import Engine, Start, launch, name_of
from agenthost.providers.local.interpreter import find_sites, host_interpreter
from agenthost.providers.local.keeper.numbers import LISTEN_FD
from agenthost.providers.local.limits import plan_limits, supported_limits
from agenthost.providers.local.resources import describe_resources
from agenthost.sandbox import Backend, Boot, Capabilities, SandboxInfo
from agenthost.spec import Limits, SandboxSpec

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class UnisolatedProvider(GuestProvider):
    """Sandboxes that keep nothing apart: same files, same network, same user as the host.

    What they share with the isolated ones: a keeper with a lifetime, a temporary working directory and
    home, a fresh environment, and that ending one ends every process it started.

    Args:
        state_dir: Where sandboxes are kept; None is AGENTHOST_STATE_DIR or the user's state directory.
        site: See LocalProvider.
        secret: See GuestProvider.
        limits: See GuestProvider.
    """

    name = "local-unisolated"
    same_python = True

    def __init__(
        self,
        *,
        state_dir: str | None = None,
        site: str | None = None,
        secret: str | bytes | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(secret=secret, limits=limits)
        self._engine = Engine(self.name, root=state_dir, connect=connect_unix)
        self._sites = find_sites(site)
        self.capabilities = Capabilities(
            isolation="none",
            networks=frozenset({"open"}),
            limits=supported_limits(own_files=False),
            lease=True,
        )

    def check(self, spec: SandboxSpec) -> None:
        """Refuse what cannot be done.

        Raises:
            UnsupportedError: A network policy, mounts, a working directory of one's own ...
        """
        if spec.network is not None and spec.network.mode != "open":
            raise UnsupportedError(f"network={spec.network.mode}: {self.name} shares the host's network")
        if spec.mounts:
            raise UnsupportedError(f"mounts: {self.name} sees the host's files where they are")
        if spec.workdir is not None:
            raise UnsupportedError(f"workdir: {self.name} always works in a temporary directory")
        check_common(spec, provider=self.name, directory=self._engine.directory())
        check_options(spec.provider_options, (), provider=self.name)
        plan_limits(spec.limits, spec.name or "trial", own_files=False)

    def layout(self, spec: SandboxSpec) -> GuestLayout:
        """Tell where things are: below the sandbox's own directory on this machine."""
        own = self._own(spec)
        return GuestLayout(
            workdir=f"{own}/work",
            home=f"{own}/home",
            spool_dir=f"{own}/spool",
            boot_dir=f"{own}/boot",
            python=host_interpreter(),
            site_dirs=self._sites,
            isolation="none",
            user_is_root=os.geteuid() == 0,
        )

    async def make(self, spec: SandboxSpec, boot: Boot) -> Backend:
        """Start the guest as a child of its keeper.

        Raises:
            SandboxStartError: The keeper did not start.
        """
        own = self._own(spec)
        limits = plan_limits(spec.limits, name_of(spec), own_files=False)
        program = [host_interpreter(), "-I", "-S", f"{own}/boot/guest.pyz", "serve"]
        program += ["--boot", f"{own}/boot/boot.json", "--listen-fd", str(LISTEN_FD)]
        user = os.environ.get("USER", "root" if os.geteuid() == 0 else "agent")
        path = os.environ.get("PATH", _PATH)
        start = Start(
            argv=program,
            env={"PATH": path, "HOME": f"{own}/home", "LANG": "C.UTF-8", "USER": user},
            cwd=f"{own}/work",
            data={},
            stage=[],
            stage_at="",
            tree="subreaper",
        )
        resources = describe_resources(limits, uid=os.geteuid(), seccomp=False, network="open")
        entry = self._engine.prepare(spec, boot, drop=False)
        return await launch(
            self._engine,
            entry,
            spec,
            start,
            kind="sandbox",
            isolation="none",
            resources=resources,
            limits=limits,
        )

    async def reach(self, sandbox_id: str) -> Backend:
        """Return a sandbox of this machine and user."""
        return await self._engine.reach(sandbox_id)

    def list(self, labels: Mapping[str, str] | None = None) -> AsyncIterator[SandboxInfo]:
        """Yield living sandboxes, newest first. What dead keepers left is removed on the way."""
        return self._engine.list(labels)

    async def close_clients(self) -> None:
        """Stop listening to keepers."""
        self._engine.close()

    def _own(self, spec: SandboxSpec) -> str:
        return os.path.join(self._engine.directory(), name_of(spec))

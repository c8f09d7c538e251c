"""E2B by the vendor's own client, for one account."""

from __future__ import annotations

import math
import re
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio.lowlevel

from agenthost.adapter.calls import CALL_SECONDS, Calls
from agenthost.adapter.checks import credential, require_extra
from agenthost.adapter.cloud import Found
from agenthost.adapter.dial_carrier import Running
from agenthost.adapter.provider import LifetimeLimitError
from agenthost.adapter.record import NONCE_LABEL
from agenthost.errors import ConfigError
from agenthost.providers.e2b.carrier import open_command
from agenthost.providers.e2b.network import network_options
from agenthost.providers.e2b.workarounds import import_client
from agenthost.spec import DEFAULT_LIFETIME, SandboxSpec
from agenthost.threads import in_thread

if TYPE_CHECKING:
    from e2b import E2B, AsyncSandbox, SandboxInfo

USER = "user"  # in every template of E2B, with sudo that asks for no password
_OPENING = 30.0  # seconds until a program has to be started
_LONGEST = re.compile(r"greater than (\d+(?:\.\d+)?) hour")


class E2BVendor:
    """See Vendor. The vendor's classes with an account of their own, not the defaults of the process.

    Args:
        api_key: None is ``E2B_API_KEY``.
        domain: None is the vendor's default, which its own variables may change.
        api_url: Another control plane, an emulator's for instance.
        sandbox_url: Another way to the sandboxes.

    Raises:
        MissingExtraError: The vendor's package is not installed.
        MissingCredentialError: There is no key.
    """

    names_are_unique = False

    def __init__(
        self, *, api_key: str | None, domain: str | None, api_url: str | None, sandbox_url: str | None
    ) -> None:
        require_extra("e2b", "e2b")
        (key,) = credential("e2b", api_key=(api_key, "E2B_API_KEY"))
        given = {"api_key": key, "domain": domain, "api_url": api_url, "sandbox_url": sandbox_url}
        self._params: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        self._bound: E2B | None = None
        self.calls = Calls("E2B", _rows, secrets=(key,))

    @asynccontextmanager
    async def calling(
        self, doing: str, *, within: float | None = CALL_SECONDS, secrets: Sequence[str] = ()
    ) -> AsyncGenerator[E2B]:
        """Yield the vendor's classes for calls that are bounded and translated. See Calls.bounded."""
        if self._bound is None:
            await anyio.lowlevel.checkpoint()
            client = await in_thread(import_client)  # two seconds, the first time
            # ``debug`` is a mode in which E2B is not called, and a variable of the environment turns it on.
            self._bound = client.E2B(**self._params, debug=False, request_timeout=CALL_SECONDS)
        assert self._bound is not None
        async with self.calls.bounded(doing, within=within, secrets=secrets):
            yield self._bound

    async def create(self, spec: SandboxSpec, labels: Mapping[str, str]) -> AsyncSandbox:
        """Make a sandbox of the template ``spec.image``. See Vendor."""
        lifetime = spec.max_lifetime or DEFAULT_LIFETIME
        secrets = tuple(header.secret for header in spec.inject)
        doing = f"making sandbox {spec.name} of template {spec.image}"
        try:
            async with self.calling(doing, secrets=secrets) as e2b:
                return await e2b.AsyncSandbox.create(
                    spec.image,
                    timeout=math.ceil(lifetime),  # all of it, also with a lease: the plan must allow it
                    metadata=dict(labels),
                    # With a key of its own the client may try again: E2B then makes one, not two. Letters and
                    # digits only: some installations accept nothing else.
                    idempotency_key=spec.labels[NONCE_LABEL],
                    lifecycle={"on_timeout": "kill"},
                    **network_options(spec),
                )
        except ConfigError as error:
            if (longest := _LONGEST.search(str(error))) is None:
                raise
            raise LifetimeLimitError.of_plan("E2B", lifetime, float(longest[1]) * 3600) from error

    async def find(self, labels: Mapping[str, str]) -> AsyncGenerator[Found]:
        """Yield sandboxes, running or paused, newest first. See Vendor."""
        doing = "listing the sandboxes"
        async with self.calling(doing) as e2b:
            from e2b import SandboxQuery

            pages = e2b.AsyncSandbox.list(SandboxQuery(metadata=dict(labels)), order="desc")
        while pages.has_next:
            async with self.calling(doing):
                infos = await pages.next_items()
            for info in infos:
                yield _found(info)

    async def look_up(self, sandbox_id: str) -> Found:
        """Return one sandbox. See Vendor."""
        async with self.calling(f"looking up sandbox {sandbox_id}") as e2b:
            return _found(await e2b.AsyncSandbox.get_info(sandbox_id))

    async def connect(self, found: Found) -> AsyncSandbox:
        """Return the handle, with the token that the sandbox's daemon wants.

        The vendor's call resumes a sandbox that was paused since ``found`` was made; the end of such a
        sandbox, and of any other, is not moved.
        """
        left = (found.expires_at or 0) - time.time()
        async with self.calling(f"connecting to sandbox {found.id}") as e2b:
            return await e2b.AsyncSandbox.connect(found.id, timeout=max(1, math.floor(left)))

    def id_of(self, handle: AsyncSandbox) -> str:
        """Return E2B's id."""
        return handle.sandbox_id

    async def kill(self, sandbox_id: str) -> None:
        """End a sandbox. See Vendor."""
        async with self.calling(f"ending sandbox {sandbox_id}") as e2b:
            await e2b.AsyncSandbox.kill(sandbox_id)

    async def put_files(self, handle: AsyncSandbox, directory: str, files: Mapping[str, bytes]) -> None:
        """Write files. See Vendor."""
        entries: list[Any] = [{"path": f"{directory}/{name}", "data": data} for name, data in files.items()]
        async with self.calling(f"writing files into sandbox {handle.sandbox_id}"):
            await handle.files.write_files(entries, user=USER)

    async def run(self, handle: AsyncSandbox, argv: Sequence[str], *, env: Mapping[str, str]) -> Running:
        """Start a program as ``user``. See Vendor."""
        async with self.calling(f"starting a program in sandbox {handle.sandbox_id}", within=_OPENING):
            return await open_command(handle, argv, user=USER, env=env)

    async def aclose(self) -> None:
        """Do nothing: the vendor's client keeps no connections that could be closed."""


def _rows() -> Sequence[Any]:
    from agenthost.providers.e2b.errors import ROWS

    return ROWS


def _found(info: SandboxInfo) -> Found:
    is_paused = info.state.value == "paused"
    return Found(
        id=info.sandbox_id,
        labels=info.metadata,
        state="paused" if is_paused else "running",
        created_at=info.started_at.timestamp(),
        # Of a paused sandbox, E2B's "end" is the time at which it was paused.
        expires_at=None if is_paused else info.end_at.timestamp(),
        resources={
            "cpu": str(info.cpu_count),
            "memory": f"{info.memory_mb} MiB",
            "template": info.name or info.template_id,
            "envd": info.envd_version,
        },
    )

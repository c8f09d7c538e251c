"""A guest on this machine, without isolation: for what a sandbox would hide or forbid."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from conformance.wrong_agents import Patch

from agenthost.adapter.boot import make_boot
from agenthost.link.carriers.socket import connect_unix
from agenthost.link.client import GuestSandbox
from agenthost.link.layout import GuestLayout
from agenthost.link.session import Session
from agenthost.link.tokens import TokenMaker
from agenthost.sandbox import Capabilities, Carrier, SandboxInfo
from agenthost.wire.tokens import CONTROL


class PlainBackend:
    """A guest that runs on this machine, in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def boot(self) -> None:
        """It runs already."""

    async def dial(self) -> Carrier:
        """Connect."""
        return await connect_unix(str(self._directory / "guest.sock"))

    async def info(self) -> SandboxInfo:
        """Tell that it runs."""
        return SandboxInfo(id="plain", name="plain", provider="plain", state="running")

    async def terminate(self) -> None:
        """Do nothing: its process is the test's."""


@asynccontextmanager
async def plain_guest(
    python: str,
    directory: Path,
    command: str = "serve",
    *,
    wrapper: Sequence[str] = (),
    patches: Sequence[Patch] = (),
) -> AsyncGenerator[GuestSandbox]:
    """Run a guest, patched and started by ``wrapper``; yield its sandbox. Leaving the block ends it."""
    layout = GuestLayout(
        workdir=str(directory),
        home=str(directory),
        spool_dir=str(directory / "spool"),
        boot_dir=str(directory),
        python=python,
        site_dirs=(),
        isolation="none",
        user_is_root=os.getuid() == 0,
    )
    tokens = TokenMaker(b"of this guest alone", sandbox="plain", nonce="n")
    boot = make_boot(
        layout,
        control_verifier=tokens.verifier("", CONTROL),
        guest_key=tokens.guest_key(),
        env={},
        lifetime=None,
        agent=None,
        compiled=False,
    )
    for patch in patches:
        boot = patch.apply(boot)
    for name, data in boot.files.items():
        (directory / name).write_bytes(data)
    argv = [*wrapper, python, "-I", str(directory / "guest.pyz"), command]
    argv += ["--boot", str(directory / "boot.json"), "--socket", str(directory / "guest.sock")]
    async with await anyio.open_process(argv, stderr=None, cwd="/") as process:
        if command == "start":
            assert await process.wait() == 0
        async with connected(PlainBackend(directory), layout, tokens) as (session, sandbox):
            await session.wait_ready()
            try:
                yield sandbox
            finally:
                with anyio.CancelScope(shield=True):
                    await session.call("stop", {})
                    session.close()
                    if command == "serve":
                        assert await process.wait() == 0


@asynccontextmanager
async def connected(
    backend: PlainBackend, layout: GuestLayout, tokens: TokenMaker, *, budget: float = 60.0
) -> AsyncGenerator[tuple[Session, GuestSandbox]]:
    """Yield a host's link to a plain guest, and its sandbox. Leaving the block closes it and ends nothing."""
    session = Session(backend, name="plain", guest_key=tokens.guest_key(), budget=budget)
    session.link.grant("", CONTROL, tokens.control())
    sandbox = GuestSandbox(
        backend,
        lambda: session,
        sandbox_id="plain",
        name="plain",
        provider="plain",
        capabilities=Capabilities(isolation="none"),
        layout=layout,
        token=tokens,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(session.run)
        try:
            yield session, sandbox
        finally:
            session.close()

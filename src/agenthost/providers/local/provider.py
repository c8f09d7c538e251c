"""The ``local`` provider: sandboxes on this machine, isolated by bubblewrap or not made at all."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence

import anyio

from agenthost.adapter.provider import GuestProvider
from agenthost.errors import AgentHostError, UnsupportedError
from agenthost.link.carriers.socket import connect_unix
from agenthost.link.layout import GuestLayout
from agenthost.providers.local import bwrap as profile
from agenthost.providers.local.backend import LocalBackend
from agenthost.providers.local.checks import check_common, check_inside_paths, check_options
from agenthost.providers.local.engine import Engine
from agenthost.providers.local.interpreter import sites_inside
from agenthost.providers.local.isolated import Host, find_host, launch_isolated, network_of
from agenthost.providers.local.keeper.numbers import LISTEN_FD
from agenthost.providers.local.limits import plan_limits, supported_limits
from agenthost.providers.local.probe import ProbeResult, is_proven, probe
from agenthost.sandbox import Backend, Boot, Capabilities, SandboxInfo
from agenthost.spec import Limits, SandboxSpec

_CLEANUP_SECONDS = 30.0


class LocalProvider(GuestProvider):
    """Sandboxes in namespaces of this machine's kernel, with no network unless asked for.

    A host that is root starts each one as an unprivileged user id of its own.

    Args:
        state_dir: Where sandboxes are kept; None is AGENTHOST_STATE_DIR or the user's state directory.
        bwrap: Name or path of bubblewrap.
        site: Directory of this machine that holds claude_agent_sdk and all it needs, as ``pip install
            --target`` makes it for this Python. None is where this Python has them.
        secret: See GuestProvider.
        limits: See GuestProvider.
    """

    name = "local"
    same_python = True
    private_socket = (
        True  # it lies on the host, outside of what is bound inside; the guest has its descriptor
    )
    account = profile.AGENT

    def __init__(
        self,
        *,
        state_dir: str | None = None,
        bwrap: str | None = None,
        site: str | None = None,
        secret: str | bytes | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(secret=secret, limits=limits)
        self._bwrap = bwrap
        self._site = site
        self._engine = Engine(self.name, root=state_dir, connect=connect_unix)
        self._found: Host | None = None
        self.capabilities = Capabilities(
            isolation="namespaces",
            networks=frozenset({"none", "open"}),
            default_network="none",
            limits=supported_limits(own_uid=os.geteuid() == 0),
            mounts=True,
            lease=True,
        )

    def check(self, spec: SandboxSpec) -> None:
        """Refuse what cannot be done.

        Raises:
            IsolationUnavailableError: bubblewrap is missing, or there is no way to isolate here.
            UnsupportedError: A network by host names, a cap that cannot be enforced ...
            ConfigError: Paths or options that make no sense.
        """
        self._host()
        if network_of(spec) == "allow":
            raise UnsupportedError(
                "network=allow(...): the local provider gives no network or all of it; "
                "use NetworkPolicy.none() or NetworkPolicy.open()"
            )
        check_common(spec, provider=self.name, directory=self._engine.directory())
        check_options(spec.provider_options, ("tmp_mib",), provider=self.name)
        check_inside_paths(spec.workdir or profile.WORKDIR_INSIDE, spec.mounts)
        plan_limits(spec.limits, spec.name or "trial", own_uid=os.geteuid() == 0)

    def layout(self, spec: SandboxSpec) -> GuestLayout:
        """Tell where things are inside; for a sandbox that exists, as it was made."""
        host = self._host()
        return GuestLayout(
            workdir=spec.workdir or self._engine.workdir_of(spec) or profile.WORKDIR_INSIDE,
            home=self.account.home,
            spool_dir=profile.SPOOL_INSIDE,
            boot_dir=profile.BOOT_INSIDE,
            python=host.interpreter.path,
            site_dirs=sites_inside(len(host.sites)),
            isolation="namespaces",
            user_is_root=self.account.uid == 0,
        )

    async def make(self, spec: SandboxSpec, boot: Boot) -> Backend:
        """Start a sandbox. The first of a process is proven to be isolated by another one beside it.

        Raises:
            IsolationUnavailableError: The proof failed; the message says what to do.
            SandboxStartError: The keeper did not start.
        """
        host = self._host()
        python = host.interpreter.path
        program = [python, "-I", "-S", f"{profile.BOOT_INSIDE}/guest.pyz", "serve"]
        program += ["--boot", f"{profile.BOOT_INSIDE}/boot.json", "--listen-fd", str(LISTEN_FD)]
        if is_proven(host):
            return await self._launch(host, spec, boot, program)
        return await self._make_and_prove(host, spec, boot, program)

    async def probe(self) -> ProbeResult:
        """Try the isolation for real. Raises IsolationUnavailableError when bubblewrap is missing."""
        return await probe(self._engine, self._host())

    async def reach(self, sandbox_id: str) -> Backend:
        """Return a sandbox of this machine and user."""
        return await self._engine.reach(sandbox_id)

    def list(self, labels: Mapping[str, str] | None = None) -> AsyncIterator[SandboxInfo]:
        """Yield living sandboxes, newest first. What dead keepers left is removed on the way."""
        return self._engine.list(labels)

    async def close_clients(self) -> None:
        """Stop listening to keepers."""
        self._engine.close()

    async def _launch(
        self, host: Host, spec: SandboxSpec, boot: Boot, program: Sequence[str]
    ) -> LocalBackend:
        return await launch_isolated(self._engine, host, spec, boot, program, account=self.account)

    def _host(self) -> Host:
        if self._found is None:
            self._found = find_host(self._bwrap, self._site)
        return self._found

    async def _make_and_prove(
        self, host: Host, spec: SandboxSpec, boot: Boot, program: Sequence[str]
    ) -> Backend:
        """Start a trial sandbox and the real one at once: in the good case the proof costs no time.

        Until it has succeeded nothing but our own guest runs in the real one.
        """
        proofs: deque[ProbeResult | AgentHostError] = deque()
        made: LocalBackend | AgentHostError | None = None

        async def prove() -> None:
            try:
                proofs.append(await probe(self._engine, host))
            except AgentHostError as error:
                proofs.append(error)

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(prove)
                # Errors are kept, not raised: a task group would wrap them.
                try:
                    made = await self._launch(host, spec, boot, program)
                except AgentHostError as error:
                    made = error
            proof = proofs[0]
            if isinstance(proof, AgentHostError):
                raise proof
            proof.require()
        except BaseException:
            if isinstance(made, LocalBackend):
                with anyio.CancelScope(shield=True), anyio.move_on_after(_CLEANUP_SECONDS):
                    await made.terminate()
            raise
        assert made is not None
        if isinstance(made, AgentHostError):
            raise made
        return made

"""One sandbox of E2B, seen from a host."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agenthost.adapter.bootstrap import (
    SECONDS,
    Bootstrap,
    bootstrap_command,
    bootstrap_files,
    dial_command,
)
from agenthost.adapter.checks import check_port
from agenthost.adapter.provider import LEASE_LABEL
from agenthost.errors import (
    ProviderError,
    SandboxGoneError,
    SandboxNotFoundError,
    SandboxPausedError,
)
from agenthost.owners import CREATED_LABEL, END_LABEL
from agenthost.providers.e2b.carrier import CommandCarrier, open_carrier
from agenthost.providers.e2b.client import Client
from agenthost.providers.e2b.creating import connect
from agenthost.providers.e2b.places import BOOT, NAME, OURS, USER
from agenthost.providers.e2b.ports import endpoint
from agenthost.providers.e2b.snapshotting import snapshot
from agenthost.providers.e2b.starting import start
from agenthost.sandbox import Boot, Carrier, SandboxInfo, SandboxState
from agenthost.supports import Endpoint

if TYPE_CHECKING:
    import e2b

_BAKE = "agenthost bake e2b"
_START = 60.0  # seconds until the bootstrap has to be started
# Before the bootstrap: the end of a line that a profile may have begun; the working directory, which only
# root may make in most places; and what an image that was a sandbox before has left.
_PREPARE = """
echo
[ -w {workdir} ] || mkdir -p {workdir} 2>/dev/null ||
    sudo -n install -d -o {user} -g {user} {workdir} || exit 1
chmod 700 {boot} && chmod 600 {boot}/*.* && rm -rf {boot}/spool {boot}/guest.sock* || exit 1
exec {command}
"""


class E2BBackend:
    """A sandbox made by this process, or found by its id.

    Args:
        client: Whom to ask.
        known: What E2B said of it.
        reached: The vendor's object for it, where there is one already.
        boot: What is to be started in it, where it was made just now.
    """

    def __init__(
        self, client: Client, known: SandboxInfo, reached: e2b.AsyncSandbox | None, boot: Boot | None = None
    ) -> None:
        self._client = client
        self._known = known
        self._reached = reached
        self._boot = boot
        self._carrier: CommandCarrier | None = None

    async def boot(self) -> None:
        """Put the files and run the bootstrap.

        Raises:
            BootstrapError: It did not come up; the message says what is missing.
        """
        boot, sandbox, name = self._boot, self._reached, self._known.name
        assert boot is not None
        assert sandbox is not None
        async with self._client.asking(f"putting the guest into sandbox {name}"):
            from e2b import CommandExitException

            files = bootstrap_files(boot).items()
            entries: list[Any] = [{"path": f"{BOOT}/{file}", "data": data} for file, data in files]
            await sandbox.files.write_files(entries, user=USER)
        line = _PREPARE.format(
            workdir=shlex.quote(str(boot.config["workdir"])),
            boot=BOOT,
            user=USER,
            command=shlex.join(bootstrap_command(boot, BOOT)),
        )
        bootstrap = Bootstrap(name, bake=_BAKE, on_progress=boot.on_progress)
        said = ""

        def on_stdout(text: str) -> None:
            bootstrap.feed(text.encode())

        def on_stderr(text: str) -> None:
            nonlocal said
            said = (said + text)[-4000:]

        code = 0
        async with self._client.asking(f"starting the guest in sandbox {name}", within=SECONDS + 30):
            try:
                program = await start(
                    sandbox,
                    line,
                    within=_START,
                    on_stdout=on_stdout,
                    on_stderr=on_stderr,
                    timeout=SECONDS,
                )
                await program.wait()
            except CommandExitException as exc:
                code = exc.exit_code
        bootstrap.finish(code, said.encode())

    async def dial(self) -> Carrier:
        """Start a ``dial`` program.

        Raises:
            SandboxGoneError: The sandbox has ended, or its guest has: it was started anew, for instance.
            SandboxPausedError: It is paused.
        """
        if self._carrier is not None and self._carrier.refused:
            raise SandboxGoneError(f"sandbox {self._known.name} was started anew: its guest is gone")
        sandbox = await self._reach() if self._reached is None else self._reached
        try:
            async with self._client.asking(f"dialling sandbox {self._known.name}"):
                self._carrier = await open_carrier(sandbox, dial_command(BOOT))
                return self._carrier
        except (ProviderError, SandboxGoneError, SandboxNotFoundError) as exc:
            self._reached = None  # its token may be another one by now
            self._refuse_unless_running(await self.info())
            raise ProviderError(str(exc)) from exc  # it runs: another dial may succeed

    async def info(self) -> SandboxInfo:
        """Ask E2B, which resumes nothing. What has gone is ``ended``, with what was known of it."""
        try:
            self._known = to_info(await self._ask())
        except SandboxNotFoundError:
            self._known = replace(self._known, state="ended")
        return self._known

    async def terminate(self) -> None:
        """Kill it. Idempotent."""
        async with self._client.asking(f"ending sandbox {self._known.name}"):
            await (await self._client.sandboxes()).kill(self._known.id)

    async def extend(self, seconds: float) -> None:
        """Move its end, never behind its lifetime's. See SupportsLease.

        Raises:
            SandboxGoneError: It has ended.
            SandboxPausedError: It is paused: it has no end that could be moved.
        """
        left = self._lifetime_left()
        wanted = math.floor(left) if left < seconds else math.ceil(seconds)
        if wanted < 1:
            return  # it ends in this very second
        try:
            async with self._client.asking(f"extending sandbox {self._known.name}"):
                await (await self._client.sandboxes()).set_timeout(self._known.id, wanted)
        except SandboxNotFoundError as exc:
            # E2B says it of paused ones, too.
            self._refuse_unless_running(await self.info())
            raise ProviderError(str(exc)) from exc  # it was resumed meanwhile

    async def pause(self) -> None:
        """Let it stand still, with its memory. See SupportsPause."""
        try:
            async with self._client.asking(f"pausing sandbox {self._known.name}"):
                await (await self._client.sandboxes()).pause(self._known.id, mode="full")
        except SandboxNotFoundError as exc:
            raise SandboxGoneError(f"sandbox {self._known.name} has ended") from exc

    async def resume(self) -> None:
        """Let it run again, with its lease where it has one. See SupportsPause."""
        info = await self.info()
        if info.state == "running":
            return
        if info.state == "ended" or (left := math.floor(self._lifetime_left())) < 1:
            raise SandboxGoneError(f"sandbox {info.name} has ended")
        lease = number_in(info.labels, LEASE_LABEL)
        async with self._client.asking(f"resuming sandbox {info.name}"):
            self._reached = await (await self._client.sandboxes()).connect(
                info.id, timeout=left if lease is None else min(left, math.ceil(lease)), on_resume="restore"
            )

    async def snapshot(self, name: str | None = None) -> str:
        """Return a template of what is on its disk. See SupportsSnapshot.

        It stands still meanwhile, and its programs go on then. E2B keeps the template until it is removed.

        Args:
            name: The template's, ``name`` or ``name:tag``; what has it already gets another build.

        Raises:
            ConfigError: E2B does not take the name.
            UnsupportedError: E2B does not do this for the account.
            SandboxGoneError: It has ended.
            SandboxPausedError: It is paused.
        """
        sandbox = self._known
        try:
            return await snapshot(
                self._client, sandbox.id, f"keeping the files of sandbox {sandbox.name}", name
            )
        except SandboxNotFoundError as exc:
            # E2B says it of paused ones, too.
            self._refuse_unless_running(await self.info())
            raise ProviderError(str(exc)) from exc  # it was resumed meanwhile

    async def endpoint(self, port: int) -> Endpoint:
        """Return where a port is reached, also one that listens on loopback alone. See SupportsPorts.

        Raises:
            ConfigError: It is no number of a port.
            SandboxGoneError: It has ended.
            SandboxPausedError: It is paused.
        """
        check_port(port)
        return endpoint(await self._reach(), port)

    async def _reach(self) -> e2b.AsyncSandbox:
        """Return the vendor's object of a sandbox that runs."""
        # Asked first: the vendor's connect would resume a sandbox that is paused.
        self._refuse_unless_running(await self.info())
        if self._reached is None:
            try:
                self._reached = await connect(self._client, await self._ask())
            except SandboxNotFoundError as exc:  # it has ended between the two questions
                raise SandboxGoneError(f"sandbox {self._known.name} has ended") from exc
        return self._reached

    async def _ask(self) -> e2b.SandboxInfo:
        async with self._client.asking(f"asking after sandbox {self._known.name}"):
            return await (await self._client.sandboxes()).get_info(self._known.id)

    def _lifetime_left(self) -> float:
        end = number_in(self._known.labels, END_LABEL)
        if end is None:
            raise ProviderError(f"sandbox {self._known.name} does not say when its lifetime is over")
        return end - time.time()

    def _refuse_unless_running(self, info: SandboxInfo) -> None:
        if info.state == "ended":
            raise SandboxGoneError(f"sandbox {info.name} has ended")
        if info.state == "paused":
            raise SandboxPausedError(f"sandbox {info.name} is paused: resume it first")


def to_info(told: e2b.SandboxInfo) -> SandboxInfo:
    """Return what E2B says of a sandbox.

    Raises:
        SandboxNotFoundError: It is none of ours.
    """
    if NAME not in told.metadata:
        raise SandboxNotFoundError(f"sandbox {told.sandbox_id} is none of agenthost's")
    state: SandboxState = "paused" if told.state.value == "paused" else "running"
    # As its end E2B tells of a paused sandbox when it was paused, and as its start of a resumed one when it
    # was resumed: what is in the metadata holds.
    created, end = number_in(told.metadata, CREATED_LABEL), number_in(told.metadata, END_LABEL)
    return SandboxInfo(
        id=told.sandbox_id,
        name=told.metadata[NAME],
        provider="e2b",
        state=state,
        labels={name: value for name, value in told.metadata.items() if name not in OURS},
        created_at=told.started_at.timestamp() if created is None else created,
        expires_at=end if state == "paused" else told.end_at.timestamp(),
        isolation="microvm",
        resources={
            "cpu": str(told.cpu_count),
            "memory": f"{told.memory_mb} MiB",
            "template": told.name or told.template_id,
            "envd": told.envd_version,
        },
    )


def number_in(labels: Mapping[str, str], name: str) -> float | None:
    """Return the number that a label says. None: it is not there, or somebody has changed it."""
    try:
        found = float(labels.get(name, ""))
    except ValueError:
        return None
    return found if math.isfinite(found) else None

"""One sandbox of Modal's, seen from a host."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import anyio
import modal
import modal.exception
from modal.stream_type import StreamType

from agenthost.adapter.bootstrap import (
    SECONDS,
    Bootstrap,
    bootstrap_command,
    bootstrap_files,
    dial_command,
)
from agenthost.adapter.checks import check_port
from agenthost.adapter.provider import NONCE_LABEL
from agenthost.errors import BootstrapError, SandboxGoneError, SandboxNotFoundError, UnsupportedError
from agenthost.owners import CREATED_LABEL, END_LABEL
from agenthost.providers.modal import paths, tags
from agenthost.providers.modal.account import Account
from agenthost.providers.modal.calls import bridged
from agenthost.providers.modal.carrier import ExecCarrier
from agenthost.providers.modal.errors import VENDOR_ERRORS, ModalError
from agenthost.providers.modal.packing import pack
from agenthost.sandbox import Boot, Carrier, SandboxInfo
from agenthost.supports import Endpoint

if TYPE_CHECKING:
    from modal.container_process import ContainerProcess

# The rest of the environment is the guest's to give: it could keep the start itself from working.
_INSTALLERS = re.compile(r"(PIP|UV)_|(HTTPS?|ALL|NO)_PROXY\Z|SSL_CERT_(FILE|DIR)\Z", re.IGNORECASE)
_BAKE = "agenthost bake modal"
_START = 60.0  # seconds that a start without an installation may take
_KEPT = 30 * 24 * 3600  # seconds that Modal keeps a snapshot


class ModalBackend:
    """Made by this process (then with a boot), or found by its id."""

    def __init__(
        self, account: Account, sandbox: modal.Sandbox, labels: Mapping[str, str], boot: Boot | None = None
    ) -> None:
        self._account = account
        self._sandbox = sandbox
        self._boot = boot
        self._carrier: ExecCarrier | None = None
        self._last = to_info(sandbox.object_id, labels)

    async def boot(self) -> None:
        """Put the guest's files, and have it running. The SDK is installed where it is needed and missing.

        Raises:
            BootstrapError: It did not start; the message says what is missing.
            SandboxGoneError: The sandbox has ended meanwhile.
        """
        boot = self._boot
        assert boot is not None
        files = pack({**bootstrap_files(boot), paths.mark(self._last.labels[NONCE_LABEL]): b""})
        command = bootstrap_command(boot, paths.BOOT)
        argv = ["sh", "-c", paths.PUT, "sh", self._workdir, paths.BOOT, *command]
        progress = Bootstrap(self._last.name, bake=_BAKE, on_progress=boot.on_progress)
        within = SECONDS if boot.needs_sdk else _START
        code = 1
        try:
            # The first program waits until a worker has the machine up.
            process = await self._exec(argv, self._account.times.create, env=_for_installers(boot.config))
            with anyio.move_on_after(within) as scope:
                code = await self._follow(process, files, progress)
        except (ModalError, SandboxNotFoundError) as error:
            raise await self._gone_or(error) from error
        if scope.cancelled_caught:
            raise BootstrapError(
                f"sandbox {self._last.name}: the guest was not started within {within:g} s. {_BAKE} makes an "
                "image that starts faster"
            )
        progress.finish(code)

    async def dial(self) -> Carrier:
        """Start a ``dial`` program inside.

        Raises:
            SandboxGoneError: There is no guest to dial: it has ended, and its sandbox ends after it.
            ModalError: Modal did not start it; ``info`` tells if there is anything left to dial.
        """
        if self._carrier is not None and self._carrier.refused:
            raise SandboxGoneError(f"the guest of sandbox {self._last.name} has ended")
        try:
            # What it says on stderr is one line at most: why it found no guest.
            process = await self._exec(
                dial_command(paths.BOOT), self._account.times.call, stderr=StreamType.PIPE
            )
        except SandboxNotFoundError as error:
            raise ModalError(str(error)) from error  # a worker's word is no proof that the sandbox has ended
        self._carrier = ExecCarrier(process, self._account.calls, self._account.times)
        return self._carrier

    async def info(self) -> SandboxInfo:
        """Ask Modal. What it no longer knows is ``ended``, and nothing that has ended runs again."""
        if self._last.state == "ended":
            return self._last
        doing = f"tell how sandbox {self._sandbox.object_id} is"
        try:
            code = await self._account.calls.repeatedly(
                doing, self._account.times.call, self._sandbox.poll.aio
            )
        except SandboxNotFoundError:
            code = 0
        self._last = replace(self._last, state="running" if code is None else "ended")
        return self._last

    async def terminate(self) -> None:
        """End it, and wait until it has ended. Idempotent."""
        if self._last.state == "ended":
            await self._account.let_go(self._sandbox)
            return
        doing = f"end sandbox {self._sandbox.object_id}"
        with suppress(SandboxNotFoundError):  # Modal has forgotten it
            await self._account.calls.repeatedly(
                doing, self._account.times.end, lambda: end_and_wait(self._sandbox)
            )
        self._last = replace(self._last, state="ended")
        await self._account.let_go(self._sandbox)

    async def snapshot(self, name: str | None = None) -> str:
        """Return an image of all its files. See SupportsSnapshot. Modal keeps it for 30 days.

        Raises:
            UnsupportedError: A name was given: Modal's snapshots have an id.
            SandboxGoneError: It has ended.
        """
        if name is not None:
            raise UnsupportedError(f"snapshot {name!r}: Modal's snapshots have no names, use the id")
        within = self._account.times.snapshot
        try:
            image = await self._account.calls.once(
                f"keep the files of sandbox {self._sandbox.object_id}",
                within,
                lambda: self._sandbox.snapshot_filesystem.aio(timeout=int(within), ttl=_KEPT),
            )
        except (ModalError, SandboxNotFoundError) as error:
            raise await self._gone_or(error) from error
        return image.object_id

    async def endpoint(self, port: int) -> Endpoint:
        """Return where a port is reached by who has its token, which is made for this one port.

        See SupportsPorts. The token is Modal's header: a server behind it sees no ``authorization``.

        Raises:
            ConfigError: It is no number of a port.
            SandboxGoneError: It has ended.
        """
        check_port(port)
        try:
            made = await self._account.calls.repeatedly(
                f"make a token for port {port} of sandbox {self._sandbox.object_id}",
                self._account.times.call,
                lambda: self._sandbox.create_connect_token.aio(port=port),
            )
        except (ModalError, SandboxNotFoundError) as error:
            raise await self._gone_or(error) from error
        return Endpoint(url=made.url.rstrip("/"), headers={"authorization": f"Bearer {made.token}"})

    @property
    def _workdir(self) -> str:
        return self._last.labels.get(tags.WORKDIR, paths.WORKDIR)

    async def _exec(
        self,
        argv: list[str],
        within: float,
        *,
        env: dict[str, str | None] | None = None,
        stderr: StreamType = StreamType.DEVNULL,
    ) -> ContainerProcess[bytes]:
        # No timeout of Modal's: at its end stdout ends without a word. ``text=False``: bytes stay bytes.
        # What nobody reads can hold a program up: stderr goes nowhere, unless it is short.
        return await self._account.calls.once(
            f"start a program in sandbox {self._sandbox.object_id}",
            within,
            lambda: self._sandbox.exec.aio(*argv, env=env, stderr=stderr, text=False),
        )

    async def _follow(self, process: ContainerProcess[bytes], stdin: bytes, progress: Bootstrap) -> int:
        """Give a program its input, take what it prints, and return its exit code."""
        calls, times = self._account.calls, self._account.times
        process.stdin.write(stdin)
        process.stdin.write_eof()  # goes out with the drain
        try:
            await calls.once("take the guest's files", times.send, process.stdin.drain.aio)
        except ModalError as error:
            if error.may_have_happened:
                raise  # it waits for the rest of them, and would for ever
            # It has ended already: what it printed tells why.

        async def listen() -> None:
            async for data in process.stdout:
                progress.feed(data)

        try:
            await bridged(listen)
        except VENDOR_ERRORS as error:
            raise ModalError(f"Modal lost the output of the guest's start: {error}") from None
        # The client asks again for ever when the worker has gone.
        return await calls.once("tell how the guest's start ended", times.call, process.wait.aio)

    async def _gone_or(self, error: Exception) -> Exception:
        """Return that the sandbox has ended, or else the error."""
        if (await self.info()).state == "ended":
            return SandboxGoneError(f"sandbox {self._last.name} has ended")
        return ModalError(str(error)) if isinstance(error, SandboxNotFoundError) else error


def _for_installers(config: Mapping[str, object]) -> dict[str, str | None]:
    """Return what of a spec's environment tells an installer where packages are."""
    env = cast("Mapping[str, str]", config["env"])
    return {name: value for name, value in env.items() if _INSTALLERS.match(name)}


async def end_and_wait(sandbox: modal.Sandbox) -> None:
    """End a sandbox, and return when it has ended."""
    # Waiting for one whose lifetime is over already raises.
    with suppress(modal.exception.SandboxTimeoutError):
        await sandbox.terminate.aio(wait=True)


def is_ours(labels: Mapping[str, str]) -> bool:
    """Tell whether tags are those of a sandbox of ours: others of the app may have any, ours among them."""
    try:
        to_info("", labels)
    except (KeyError, ValueError):
        return False
    return NONCE_LABEL in labels


def to_info(sandbox_id: str, labels: Mapping[str, str]) -> SandboxInfo:
    """Return what the tags of a running sandbox tell."""
    return SandboxInfo(
        id=sandbox_id,
        name=labels[tags.NAME],
        provider="modal",
        state="running",
        labels=dict(labels),
        created_at=float(labels[CREATED_LABEL]),
        expires_at=float(labels[END_LABEL]),
        isolation=tags.isolation(labels),
        resources=tags.resources(labels),
    )

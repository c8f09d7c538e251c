"""Modal by the vendor's own client, for one account and one app. Imports the vendor's client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar, cast

import anyio
import modal
import modal.exception
from modal.config import DEFAULT_SERVER_URL
from modal.stream_type import StreamType
from modal_proto import api_pb2

from agenthost.adapter.bootstrap import archive_of
from agenthost.adapter.cloud import Found, mark
from agenthost.adapter.dial_carrier import Running
from agenthost.adapter.record import NAME_LABEL, NONCE_LABEL
from agenthost.errors import AgentHostError, ConfigError, ProviderError, SandboxNotFoundError
from agenthost.providers.modal import workarounds
from agenthost.providers.modal.carrier import ExecCommand
from agenthost.providers.modal.errors import ROWS
from agenthost.providers.modal.headers import header_policy
from agenthost.providers.modal.settings import Settings, Times
from agenthost.providers.modal.spec import RULE, arguments, info_resources
from agenthost.providers.modal.workarounds import BridgedCalls, Connections
from agenthost.spec import SandboxSpec

T = TypeVar("T")

_POLLING = 0.1  # seconds between two looks whether a sandbox has ended


class ModalVendor:
    """See Vendor. An explicit client: never the one that Modal keeps for the whole process.

    Args:
        settings: The account.
        times: How long calls may take.
        boot_dir: The guest's directory, which the sandbox's main program watches.

    Raises:
        ConfigError: See refuse_profile.
    """

    names_are_unique = True

    def __init__(self, settings: Settings, times: Times, boot_dir: str) -> None:
        workarounds.refuse_profile(settings)
        self.settings = settings
        self.times = times
        self.calls = BridgedCalls("Modal", lambda: ROWS, secrets=(settings.token_secret,))
        self.once, self.repeat = self.calls.once, self.calls.repeated
        self._boot_dir = boot_dir
        self._client: modal.Client | None = None
        self._app: modal.App | None = None
        self._closed = False
        self._lock = anyio.Lock()
        self.connections = Connections(self.once, times.close)

    async def client(self) -> modal.Client:
        """Return the client, which the first call opens. Raises ProviderError when this was closed."""
        async with self._lock:
            if self._closed:
                raise ProviderError("the modal provider is closed: open another one")
            if self._client is None:
                url = self.settings.server_url or DEFAULT_SERVER_URL
                credential = (self.settings.token_id, self.settings.token_secret)
                client = modal.Client(url, api_pb2.CLIENT_TYPE_CLIENT, credential)
                await self.once("opening a client", self.times.call, cast("Any", client).__aenter__)
                self._client = client
            return self._client

    async def app(self) -> modal.App:
        """Return the app, which the first call makes where it is missing.

        Raises:
            ConfigError: Modal has no such environment.
        """
        client = await self.client()
        async with self._lock:
            if self._app is None:
                settings = self.settings
                try:
                    self._app = await self.repeat(
                        f"finding or making the app {settings.app!r}",
                        self.times.call,
                        lambda: modal.App.lookup.aio(
                            settings.app,
                            create_if_missing=True,
                            client=client,
                            environment_name=settings.environment,
                        ),
                    )
                except SandboxNotFoundError as error:  # the environment: apps are made
                    raise ConfigError(str(error)) from error
            return self._app

    async def create(self, spec: SandboxSpec, labels: Mapping[str, str]) -> modal.Sandbox:
        """Make a sandbox of the image ``spec.image``, an id. See Vendor."""
        client, app = await self.client(), await self.app()
        program = ["sh", "-c", workarounds.MAIN, "sh", self._boot_dir, mark(spec.labels[NONCE_LABEL])]
        options: dict[str, Any] = {
            **arguments(spec),
            "app": app,
            "client": client,
            "image": modal.Image.from_id(spec.image or "", client=client),
            "name": spec.name,
            "runtime": self.settings.runtime,
            "tags": dict(labels),
        }
        if spec.inject:
            options["_experimental_outbound_policy"] = await header_policy(self, spec.inject)
        make = cast("Any", modal.Sandbox).create.aio  # its keywords are typed in part
        try:
            sandbox: modal.Sandbox = await self.once(
                f"making sandbox {spec.name}",
                self.times.create,
                lambda: make(*program, str(workarounds.UNCLAIMED), **options),
            )
            return self.connections.keep(sandbox)
        except SandboxNotFoundError as error:  # made, and ended before the answer
            raise ProviderError(str(error), outcome="unknown") from error

    async def find(self, labels: Mapping[str, str]) -> AsyncGenerator[Found]:
        """Yield running sandboxes. See Vendor."""
        for sandbox in await self._with_labels(labels):
            with suppress(SandboxNotFoundError):  # it has just ended
                found = await self._describe(sandbox)
                if labels.items() <= found.labels.items():
                    yield found

    async def look_up(self, sandbox_id: str) -> Found:
        """Return a running sandbox. See Vendor."""
        return await self._describe(await self._by_id(sandbox_id))

    async def connect(self, found: Found) -> modal.Sandbox:
        """Return the handle. See Vendor."""
        return self.connections.keep(await self._by_id(found.id))

    def id_of(self, handle: modal.Sandbox) -> str:
        """Return Modal's id."""
        return handle.object_id

    async def kill(self, sandbox_id: str) -> None:
        """End a sandbox, and return when it has ended. See Vendor."""
        used = self.connections.of(sandbox_id)
        with suppress(SandboxNotFoundError):
            sandbox = used[0] if used else await self._by_id(sandbox_id)
            await self.repeat(f"ending sandbox {sandbox_id}", self.times.end, lambda: _end(sandbox))
        await self.connections.close(used)

    async def put_files(self, handle: modal.Sandbox, directory: str, files: Mapping[str, bytes]) -> None:
        """Write files, which replace what the directory holds. See Vendor."""
        argv = ["sh", "-c", workarounds.PUT, "sh", directory]
        # The first program waits until a worker has started the machine.
        command = await self._exec(handle, argv, {}, self.times.create)
        try:
            await command.send(archive_of(files))
            await command.end_input()
            printed = b""
            while data := await command.receive():
                printed += data
            if code := await command.wait():
                text = printed[-2000:].decode(errors="replace")
                raise ProviderError(
                    f"writing files into sandbox {handle.object_id}: exit code {code}: {text}"
                )
        finally:
            await command.aclose()

    async def run(self, handle: modal.Sandbox, argv: Sequence[str], *, env: Mapping[str, str]) -> Running:
        """Start a program. See Vendor."""
        return await self._exec(handle, argv, env, self.times.call)

    async def aclose(self) -> None:
        """Close the client and every connection to a worker, for good. Ends no sandbox."""
        self._closed = True
        client, self._client, self._app = self._client, None, None
        with anyio.CancelScope(shield=True):
            await self.connections.close()
            if client is not None:
                with suppress(AgentHostError):
                    await self.once("closing the client", self.times.close, cast("Any", client).close.aio)

    async def _exec(
        self, handle: modal.Sandbox, argv: Sequence[str], env: Mapping[str, str], within: float
    ) -> ExecCommand:
        # No timeout of Modal's: at its end stdout ends without an error. ``text=False``: bytes stay bytes.
        process = await self.once(
            f"starting a program in sandbox {handle.object_id}",
            within,
            lambda: handle.exec.aio(*argv, env=dict(env), stderr=StreamType.PIPE, text=False),
        )
        return ExecCommand(process, self.once, self.times)

    async def _by_id(self, sandbox_id: str) -> modal.Sandbox:
        if not sandbox_id.startswith("sb-"):
            raise SandboxNotFoundError(f"Modal has no sandbox {sandbox_id!r}")
        client = await self.client()
        sandbox = await self.repeat(
            f"looking up sandbox {sandbox_id}",
            self.times.call,
            lambda: modal.Sandbox.from_id.aio(sandbox_id, client=client),
        )
        if sandbox.returncode is not None:
            raise SandboxNotFoundError(f"sandbox {sandbox_id} has ended")
        return sandbox

    async def _with_labels(self, labels: Mapping[str, str]) -> list[modal.Sandbox]:
        client, app, settings = await self.client(), await self.app(), self.settings
        if name := labels.get(NAME_LABEL):  # looked up directly, which knows of new sandboxes at once
            (name,) = RULE.decode({NAME_LABEL: name}).values()
            with suppress(SandboxNotFoundError):
                return [
                    await self.repeat(
                        f"looking for a sandbox named {name}",
                        self.times.call,
                        lambda: modal.Sandbox.from_name.aio(
                            settings.app, name, environment_name=settings.environment, client=client
                        ),
                    )
                ]
            return []

        async def collect() -> list[modal.Sandbox]:
            # Without ``.aio`` this is a generator that blocks.
            found = modal.Sandbox.list.aio(app_id=app.app_id, tags=dict(labels), client=client)
            return [one async for one in found]

        return await self.repeat("listing the sandboxes", self.times.call, collect)

    async def _describe(self, sandbox: modal.Sandbox) -> Found:
        doing = f"reading the tags of sandbox {sandbox.object_id}"
        labels = await self.repeat(doing, self.times.call, sandbox.get_tags.aio)
        isolation, resources = info_resources(RULE.decode(labels))
        return Found(id=sandbox.object_id, labels=labels, isolation=isolation, resources=resources)


async def _end(sandbox: modal.Sandbox) -> None:
    """End a sandbox, and return when it has ended.

    Modal's own wait for the end gives up after 20 seconds.
    """
    await sandbox.terminate.aio()
    # Asking for one whose lifetime is over raises.
    with suppress(modal.exception.SandboxTimeoutError, modal.exception.SandboxTerminatedError):
        while await sandbox.poll.aio() is None:  # noqa: ASYNC110 - Modal answers only when asked
            await anyio.sleep(_POLLING)

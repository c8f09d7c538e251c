"""Modal by the vendor's own client, for one account and one app. Imports the vendor's client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Any, cast

import anyio
import modal
from modal_proto import api_pb2

from agenthost.adapter.bootstrap import archive_of
from agenthost.adapter.cloud import Found, mark
from agenthost.adapter.dial_carrier import follow
from agenthost.adapter.record import NAME_LABEL, NONCE_LABEL
from agenthost.errors import AgentHostError, ConfigError, ProviderError, SandboxNotFoundError
from agenthost.providers.modal.carrier import ExecCommand, open_command
from agenthost.providers.modal.errors import ROWS
from agenthost.providers.modal.headers import header_options
from agenthost.providers.modal.resources import RUNTIME_LABEL, info_resources
from agenthost.providers.modal.spec import CREATING, RULE, arguments
from agenthost.providers.modal.workarounds import (
    CLOSING,
    MAIN,
    PUT,
    UNCLAIMED,
    BridgedCalls,
    Connections,
    end_sandbox,
    place_of,
)
from agenthost.spec import SandboxSpec


class ModalVendor:
    """See Vendor. An explicit client: never the one that Modal keeps for the whole process.

    Args:
        token: The credential, an id and a secret.
        app: Name of Modal's app that the sandboxes belong to.
        environment, server_url: See ``place_of``.
        boot_dir: The guest's directory, which the sandbox's main program watches.

    Raises:
        ConfigError: See ``place_of``.
    """

    names_are_unique = True

    def __init__(
        self, token: tuple[str, str], app: str, environment: str | None, server_url: str | None, boot_dir: str
    ) -> None:
        self.environment, self._url = place_of(environment, server_url)
        self.calls = BridgedCalls("Modal", lambda: ROWS, secrets=token[1:])
        self.connections = Connections(self.calls)
        self._token, self._app_name, self._boot_dir = token, app, boot_dir
        self._client: Any = None  # typed in part
        self._app: modal.App | None = None
        self._lock = anyio.Lock()

    async def client(self) -> Any:
        """Return the client, a ``modal.Client``, which the first call opens.

        Raises:
            ProviderError: This was closed.
        """
        async with self._lock:
            if self._client is None:
                client: Any = modal.Client(self._url, api_pb2.CLIENT_TYPE_CLIENT, self._token)
                await self.calls.once("opening a client", client.__aenter__)
                self._client = client
            if self._client.is_closed():
                raise ProviderError("the modal provider is closed: open another one")
            return self._client

    async def app(self) -> modal.App:
        """Return the app, which the first call makes where it is missing.

        Raises:
            ConfigError: Modal has no such environment.
        """
        client, name = await self.client(), self._app_name
        if self._app is None:
            look_up = partial(modal.App.lookup.aio, create_if_missing=True, environment_name=self.environment)
            try:
                doing = f"finding or making the app {name!r}"
                self._app = await self.calls.repeated(doing, lambda: look_up(name, client=client))
            except SandboxNotFoundError as error:  # the environment: apps are made
                raise ConfigError(str(error)) from error
        return self._app

    async def create(self, spec: SandboxSpec, labels: Mapping[str, str]) -> modal.Sandbox:
        """Make a sandbox of the image ``spec.image``, an id. See Vendor."""
        client, app = await self.client(), await self.app()
        program = ["sh", "-c", MAIN, "sh", self._boot_dir, mark(spec.labels[NONCE_LABEL]), str(UNCLAIMED)]
        options: dict[str, Any] = {**arguments(spec), **await header_options(self, spec.inject)}
        options.update(app=app, client=client, tags=dict(labels), runtime=spec.labels[RUNTIME_LABEL])
        options["image"] = modal.Image.from_id(spec.image or "", client=client)
        make = partial(cast("Any", modal.Sandbox).create.aio, *program, **options)  # typed in part
        try:
            made = await self.calls.once(f"making sandbox {spec.name}", make, within=CREATING)
        except SandboxNotFoundError as error:  # made, and ended before the answer
            raise ProviderError(str(error), outcome="unknown") from error
        return self.connections.keep(made)

    async def find(self, labels: Mapping[str, str]) -> AsyncGenerator[Found]:
        """Yield running sandboxes. See Vendor."""
        client, app = await self.client(), await self.app()

        async def look() -> list[modal.Sandbox]:
            if name := labels.get(NAME_LABEL):  # of a new sandbox a list may not know yet
                by_name = partial(modal.Sandbox.from_name.aio, self._app_name, name, client=client)
                return [await by_name(environment_name=self.environment)]
            # Without ``.aio`` this is a generator that blocks.
            every = modal.Sandbox.list.aio(app_id=app.app_id, tags=dict(labels), client=client)
            return [sandbox async for sandbox in every]

        with suppress(SandboxNotFoundError):  # there is none of this name, or the app has been removed
            for sandbox in await self.calls.repeated("looking for sandboxes", look):
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
        with suppress(SandboxNotFoundError):
            sandbox = self.connections.of(sandbox_id) or await self._by_id(sandbox_id)
            await self.calls.repeated(
                f"ending sandbox {sandbox_id}", partial(end_sandbox, sandbox), within=20
            )
        await self.connections.close(sandbox_id)

    async def put_files(self, handle: modal.Sandbox, directory: str, files: Mapping[str, bytes]) -> None:
        """Write files, which replace what the directory holds. See Vendor."""
        doing, argv = f"writing files into sandbox {handle.object_id}", ["sh", "-c", PUT, "sh", directory]
        # The first program waits until a worker has started the machine.
        async with aclosing(await open_command(self.calls, handle, argv, {}, within=CREATING)) as command:
            await command.send(archive_of(files))
            await command.end_input()
            await follow(command, doing)

    async def run(self, handle: modal.Sandbox, argv: Sequence[str], *, env: Mapping[str, str]) -> ExecCommand:
        """Start a program. See Vendor."""
        return await open_command(self.calls, handle, argv, env)

    async def aclose(self) -> None:
        """Close the client and every connection to a worker, for good. Ends no sandbox."""
        await self.connections.close()
        async with self._lock:  # a client that is being opened is closed, too
            if self._client is not None:
                with suppress(AgentHostError):
                    await self.calls.once("closing the client", self._client.close.aio, within=CLOSING)

    async def _by_id(self, sandbox_id: str) -> modal.Sandbox:
        if not sandbox_id.startswith("sb-"):
            raise SandboxNotFoundError(f"Modal has no sandbox {sandbox_id!r}")
        look_up = partial(modal.Sandbox.from_id.aio, sandbox_id, client=await self.client())
        sandbox = await self.calls.repeated(f"looking up sandbox {sandbox_id}", look_up)
        if sandbox.returncode is not None:
            raise SandboxNotFoundError(f"sandbox {sandbox_id} has ended")
        return sandbox

    async def _describe(self, sandbox: modal.Sandbox) -> Found:
        doing = f"reading the tags of sandbox {sandbox.object_id}"
        labels = await self.calls.repeated(doing, sandbox.get_tags.aio)
        isolation, resources = info_resources(RULE.decode(labels))
        return Found(id=sandbox.object_id, labels=labels, isolation=isolation, resources=resources)

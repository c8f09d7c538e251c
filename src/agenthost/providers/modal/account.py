"""One client of Modal's and one app: what everything else asks through."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

import anyio
import modal
from modal.config import DEFAULT_SERVER_URL
from modal_proto import api_pb2

from agenthost.errors import AgentHostError, ConfigError, SandboxNotFoundError
from agenthost.providers.modal.calls import Caller
from agenthost.providers.modal.errors import ModalError
from agenthost.providers.modal.profile import refuse_profile
from agenthost.providers.modal.settings import Settings, Times


class Account:
    """An explicit client: never the one that Modal keeps for the whole process.

    Raises:
        ConfigError: See refuse_profile.
    """

    def __init__(self, settings: Settings, times: Times) -> None:
        refuse_profile(settings)
        self.settings = settings
        self.times = times
        self.calls = Caller(settings.token_secret)
        self._client: modal.Client | None = None
        self._app: modal.App | None = None
        self._closed = False
        self._lock = anyio.Lock()
        # Whoever was reached has a connection to its worker, which must not outlive the provider.
        self._reached: set[modal.Sandbox] = set()

    async def client(self) -> modal.Client:
        """Return the client, which is opened by the first call. Raises ModalError when this was closed."""
        async with self._lock:
            if self._closed:
                raise ModalError("the modal provider is closed: open another one")
            if self._client is None:
                url = self.settings.server_url or DEFAULT_SERVER_URL
                credential = (self.settings.token_id, self.settings.token_secret)
                client = modal.Client(url, api_pb2.CLIENT_TYPE_CLIENT, credential)
                await self.calls.once("open a client", self.times.call, cast("Any", client).__aenter__)
                self._client = client
            return self._client

    async def app(self) -> modal.App:
        """Return the app, which is made by the first call if it is not there.

        Raises:
            ConfigError: Modal has no such environment.
        """
        client = await self.client()
        async with self._lock:
            if self._app is None:
                try:
                    self._app = await self.calls.repeatedly(
                        f"find or make the app {self.settings.app!r}",
                        self.times.call,
                        lambda: modal.App.lookup.aio(
                            self.settings.app,
                            create_if_missing=True,
                            client=client,
                            environment_name=self.settings.environment,
                        ),
                    )
                except SandboxNotFoundError as error:  # the environment: apps are made
                    raise ConfigError(str(error)) from error
            return self._app

    async def secret(self, name: str) -> modal.Secret:
        """Return a secret that Modal keeps. Raises ConfigError when it does not."""
        client = await self.client()
        secret = modal.Secret.from_name(name, environment_name=self.settings.environment)
        try:
            await self.calls.repeatedly(
                f"find the secret {name!r}", self.times.call, lambda: secret.hydrate.aio(client)
            )
        except SandboxNotFoundError as error:
            raise ConfigError(str(error)) from error
        return secret

    async def by_id(self, sandbox_id: str) -> modal.Sandbox:
        """Return a sandbox. Raises SandboxNotFoundError."""
        client = await self.client()
        return self.keep(
            await self.calls.repeatedly(
                f"find sandbox {sandbox_id}",
                self.times.call,
                lambda: modal.Sandbox.from_id.aio(sandbox_id, client=client),
            )
        )

    async def by_name(self, name: str) -> modal.Sandbox | None:
        """Return a running sandbox, None when no such name is running."""
        client = await self.client()
        with suppress(SandboxNotFoundError):
            return await self.calls.repeatedly(
                f"look for a sandbox named {name}",
                self.times.call,
                lambda: modal.Sandbox.from_name.aio(
                    self.settings.app, name, environment_name=self.settings.environment, client=client
                ),
            )
        return None

    async def with_tags(self, tags: Mapping[str, str]) -> list[modal.Sandbox]:
        """Return the running sandboxes of the app that have these tags."""
        client, app = await self.client(), await self.app()

        async def collect() -> list[modal.Sandbox]:
            # Without ``.aio`` this is a generator that blocks.
            return [
                one async for one in modal.Sandbox.list.aio(app_id=app.app_id, tags=dict(tags), client=client)
            ]

        return await self.calls.repeatedly("list the sandboxes", self.times.call, collect)

    async def tags(self, sandbox: modal.Sandbox) -> dict[str, str]:
        """Return a sandbox's tags. Raises SandboxNotFoundError."""
        doing = f"tell the tags of sandbox {sandbox.object_id}"
        return await self.calls.repeatedly(doing, self.times.call, sandbox.get_tags.aio)

    def keep(self, sandbox: modal.Sandbox) -> modal.Sandbox:
        """Note that there may be a connection to its worker."""
        self._reached.add(sandbox)
        return sandbox

    async def let_go(self, sandbox: modal.Sandbox) -> None:
        """Close the connection to its worker as soon as nothing uses it. It can be asked nothing then."""
        self._reached.discard(sandbox)
        with suppress(AgentHostError):
            await self.calls.once("let go of a sandbox", self.times.close, cast("Any", sandbox).detach.aio)

    async def aclose(self) -> None:
        """Close the client and every connection to a worker, for good. Ends no sandbox."""
        self._closed = True
        client, self._client, self._app = self._client, None, None
        # However many connections there are, they take no longer than one.
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as tasks:
                for sandbox in tuple(self._reached):
                    tasks.start_soon(self.let_go, sandbox)
            if client is not None:
                with suppress(AgentHostError):
                    await self.calls.once("close its client", self.times.close, cast("Any", client).close.aio)

"""One client of Modal's and one app: what everything else asks through."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

import anyio
import modal
import modal.config
from modal_proto import api_pb2

from agenthost.errors import AgentHostError, SandboxNotFoundError
from agenthost.providers.modal.calls import Caller
from agenthost.providers.modal.settings import Settings, Times


class Account:
    """An explicit client: never the one that Modal keeps for the whole process."""

    def __init__(self, settings: Settings, times: Times) -> None:
        self.settings = settings
        self.times = times
        self.calls = Caller(settings.token_secret)
        self._client: modal.Client | None = None
        self._app: modal.App | None = None
        self._lock = anyio.Lock()
        # Whoever was reached has a connection to its worker, which must not outlive the provider.
        self._reached: set[modal.Sandbox] = set()

    async def client(self) -> modal.Client:
        """Return the client, which is opened by the first call."""
        async with self._lock:
            if self._client is None:
                url = self.settings.server_url or str(modal.config.config["server_url"])
                credential = (self.settings.token_id, self.settings.token_secret)
                client = modal.Client(url, api_pb2.CLIENT_TYPE_CLIENT, credential)
                await self.calls.once("open a client", self.times.call, cast("Any", client).__aenter__)
                self._client = client
            return self._client

    async def app(self) -> modal.App:
        """Return the app, which is made by the first call if it is not there."""
        client = await self.client()
        async with self._lock:
            if self._app is None:
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
            return self._app

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
        """Close the client and every connection to a worker. Ends no sandbox."""
        client, self._client, self._app = self._client, None, None
        with anyio.CancelScope(shield=True):
            for sandbox in tuple(self._reached):
                await self.let_go(sandbox)
            if client is not None:
                with suppress(AgentHostError):
                    await self.calls.once("close its client", self.times.close, cast("Any", client).close.aio)

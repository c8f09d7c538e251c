"""Calls of the Worker, and what it must be before the first of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import anyio

from agenthost.adapter.calls import Calls
from agenthost.adapter.rest import RestClient, RestError
from agenthost.errors import ConfigError
from agenthost.providers.cloudflare.errors import SET_KEY, OpenWorkerError, WrongWorkerError, rows
from agenthost.providers.cloudflare.network import Egress

_ROOT = "/agenthost/v1"
_VERSION = 1  # of the Worker's routes


@dataclass(frozen=True, slots=True)
class AboutWorker:
    """What a Worker states of itself.

    Attributes:
        longest: Seconds of the longest lifetime that it allows.
        allowed: The hosts that sandboxes reach, where its egress is closed.
        resources: The version of Cloudflare's package, the image, and what sandboxes may reach.
    """

    longest: float
    allowed: frozenset[str]
    resources: Mapping[str, str]


class WorkerApi:
    """The calls of one Worker.

    Args:
        url: Of the Worker.
        api_key: The Worker's secret SANDBOX_API_KEY.
        egress: What the Worker must let its sandboxes reach.

    Attributes:
        url: Where agenthost's routes begin.
        authorization: The header of each call. Secret.
        rest: Makes one call of the Worker.
        calls: Bounds and translates calls.
    """

    def __init__(self, *, url: str, api_key: str, egress: Egress) -> None:
        self.url = url.rstrip("/") + _ROOT
        self.authorization = {"authorization": f"Bearer {api_key}"}
        self.rest = RestClient(self.url, lambda: (self.authorization, {}))
        self._stranger = RestClient(self.url, lambda: ({}, {}))
        self.calls = Calls("Cloudflare", rows, secrets=(api_key,))
        self._egress = egress
        self._looking = anyio.Lock()
        self._about: AboutWorker | None = None

    async def about(self) -> AboutWorker:
        """Return what the Worker states of itself. Asked once, and before any other call.

        Raises:
            OpenWorkerError: The Worker answers without a key, or has none.
            WrongWorkerError: The Worker does not have the routes of agenthost.
            ConfigError: The Worker's sandboxes reach something else than ``egress`` states.
        """
        async with self._looking:
            if self._about is None:
                await self.calls.repeat("asking the Worker without a key", self._refuse_open)
                self._about = await self.calls.repeat("asking the Worker what it is", self._recognise)
            return self._about

    async def ask(self, doing: str, method: str, path: str, **given: Any) -> Any:
        """Return the answer to a call that does no harm when it is made twice. See RestClient.ask."""
        await self.about()
        return await self.calls.repeat(doing, lambda: self.rest.ask(method, path, **given))

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        await self.rest.aclose()
        await self._stranger.aclose()

    async def _refuse_open(self) -> None:
        try:
            await self._stranger.ask("GET", "")
        except RestError as error:
            if error.status_code == 401:
                return
            raise
        raise OpenWorkerError(f"the Worker at {self.url} answers everyone, without a key; {SET_KEY}")

    async def _recognise(self) -> AboutWorker:
        answer = await self.rest.ask("GET", "")
        version = answer.get("agenthost")
        if version != _VERSION:
            raise WrongWorkerError(
                f"the Worker at {self.url} has version {version!r} of the routes, and this agenthost needs "
                f"version {_VERSION}: deploy what `agenthost cloudflare init` makes"
            )
        if answer["egress"] != self._egress:
            raise ConfigError(
                f"egress={self._egress!r}: the network of sandboxes of the Worker at {self.url} is "
                f"{answer['egress']}"
            )
        resources = {name: str(answer.get(name, "")) for name in ("sandbox", "image", "egress")}
        allowed = frozenset(host.lower() for host in answer.get("allowed", ()))
        return AboutWorker(float(answer["max_lifetime"]), allowed, resources)

"""Calls of the Machines API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

import anyio

from agenthost.adapter.calls import Calls
from agenthost.adapter.rates import Rates
from agenthost.adapter.rest import RestClient, RestError
from agenthost.providers.fly.errors import AppError, rows

PUBLIC = "https://api.machines.dev"
# For each action on one machine or app. Source: "Working with the Machines API", superfly/docs 5c22c8c.
_USUAL, _OF_ACTION = (1.0, 3), {"get machine": (5.0, 10)}
_AGAIN = 5  # how often a call is sent that is refused because of its rate
_PAUSE = 1.0  # seconds until then, where Fly states none


@dataclass(frozen=True, slots=True)
class Call:
    """One call.

    Attributes:
        action: What Fly counts it as: ``create machine``.
        method: Of HTTP.
        path: The parts behind ``/v1/apps``: the name of an app, ``machines``, an id, and what follows.
        query, body: Parameters, and JSON.
    """

    action: str
    method: str
    path: tuple[str, ...]
    query: Mapping[str, object] | None = None
    body: object = None


class FlyApi:
    """The Machines API for one token.

    Args:
        token: As ``fly tokens create`` prints it: one that begins with ``FlyV1`` is sent as it is, any other
            as a bearer token.
        url: Of the API, without ``/v1``. Inside Fly's private network it is ``http://_api.internal:4280``.
    """

    def __init__(self, *, token: str, url: str) -> None:
        sent = {"authorization": token if token.startswith(("FlyV1 ", "Bearer ")) else f"Bearer {token}"}
        base_url = f"{url.rstrip('/')}/v1/apps"
        self._rest = RestClient(base_url, lambda: (sent, {}), request_id="fly-request-id")
        self._rates = Rates(_USUAL, _OF_ACTION)
        self.calls = Calls("Fly", rows, secrets=(token, token.partition(" ")[2]))

    async def once(self, doing: str, call: Call) -> Any:
        """Make a call and return its answer. See Calls.bounded."""
        async with self.calls.bounded(doing):
            return await self._send(call)

    async def again(self, doing: str, call: Call) -> Any:
        """Make a call that does no harm when it is made twice. See Calls.repeat."""
        return await self.calls.repeat(doing, partial(self._send, call))

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        await self._rest.aclose()

    async def _send(self, call: Call) -> Any:
        app, _, machine, *_ = (*call.path, "", "", "")
        path = "".join(f"/{quote(part, safe='')}" for part in call.path)
        for left in reversed(range(_AGAIN)):
            await self._rates.wait(call.action, machine or app)
            try:
                return await self._rest.ask(call.method, path, query=call.query, body=call.body)
            except RestError as error:
                if error.status_code != 429 or not left:
                    raise error if machine else AppError.of(error) from None
                await anyio.sleep(_PAUSE if error.retry_after is None else error.retry_after)
        raise AssertionError

"""fly-proxy: the way from the internet to the ports of machines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from agenthost.testing.edge import Edge, EdgeFault
from agenthost.testing.emulators.base.boxes import Boxes
from agenthost.testing.emulators.base.faults import Faults
from agenthost.testing.emulators.base.rest import reply
from agenthost.testing.emulators.base.streams import Passing, Streams
from agenthost.testing.emulators.fly.boxes import FlyBox
from agenthost.testing.loopback import Exchange

FORCE, PREFER = "fly-force-instance-id", "fly-prefer-instance-id"
_UNROUTED = (503, 502, 404)  # the answers of a proxy that does not know a machine yet, in turn


class Proxy:
    """Leads requests to machines.

    Args:
        boxes: The machines.
        streams: Which requests are open, so that a test can cut them.
        faults: What is to go wrong: calls are ``proxy GET /path``.
        edge: How requests are passed on.
        wake: Starts a machine whose service wants that.
        answers: Whether an app has an address.
    """

    def __init__(
        self,
        boxes: Boxes[FlyBox],
        streams: Streams,
        faults: Faults,
        edge: Edge,
        wake: Callable[[FlyBox], Awaitable[None]],
        answers: Callable[[str], bool],
    ) -> None:
        self.requests: list[dict[str, str]] = []
        self._boxes = boxes
        self._streams = streams
        self._faults = faults
        self.edge = edge
        self._wake = wake
        self._answers = answers

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request."""
        request = exchange.request
        self.requests.append({"method": request.method, "target": request.target, **request.headers})
        fault = await self._faults.strike(f"proxy {request.method} {request.target.partition('?')[0]}")
        if fault is not None and fault.status is not None:
            await exchange.reply(fault.http_status, fault.message.encode(), fault.http_headers)
            return
        if fault is not None and fault.drop:
            return
        box = self._chosen(exchange)
        if box is None:
            await _say(exchange, 404, "no known instance")
            return
        if not self._answers(box.app):
            return  # no address leads here
        if box.unrouted:
            box.unrouted -= 1
            await _say(exchange, _UNROUTED[box.unrouted % len(_UNROUTED)], "instance not found yet")
            return
        service = box.service
        if box.state != "started" and service is not None and service.get("autostart"):
            await self._wake(box)
        if box.state != "started" or service is None:
            await _say(exchange, 503, "no healthy instance")
            return
        box.requests += 1
        try:
            if fault is not None and fault.lose:
                self.edge.plan(EdgeFault("lose"))
            with self._streams.opened():
                upstream = f"http://127.0.0.1:{service['internal_port']}"
                await self.edge.forward(Passing(exchange, self._streams), upstream)
        finally:
            box.requests -= 1

    def _chosen(self, exchange: Exchange) -> FlyBox | None:
        headers = exchange.request.headers
        running = {box.id: box for box in self._boxes.running()}
        if FORCE in headers:
            return running.get(headers[FORCE])
        # Whatever is preferred, the proxy chooses by its load.
        others = [box for box in running.values() if box.id != headers.get(PREFER)]
        return next(iter([*others, *running.values()]), None)


async def _say(exchange: Exchange, status: int, message: str) -> None:
    await reply(exchange, status, {"error": message})

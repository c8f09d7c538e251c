"""Everything that the guest keeps, in one event loop: links, processes, files, the model endpoint."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

from agenthost.guest.calls import Calls, Reply, Sinks, about
from agenthost.guest.carrier import Carriers
from agenthost.guest.config import BootConfig
from agenthost.guest.file_calls import FileCalls
from agenthost.guest.first_agent import FirstAgent
from agenthost.guest.launcher import Launcher
from agenthost.guest.model import ModelEndpoint
from agenthost.guest.process_calls import ProcessCalls
from agenthost.wire.events import Called, DriverChanged, Ended, Event, LinkForgotten, Received
from agenthost.wire.guest import GuestHub, GuestLink

if TYPE_CHECKING:
    from agenthost.guest.http.port import Port

_LAST_WORD = 0.05  # seconds between the answer to ``stop`` and the end
_TICK = 1.0  # seconds between looks at silent links; the wire's own times are far longer


def run_guest(
    config: BootConfig,
    listener: socket.socket,
    first: FirstAgent | None,
    port: socket.socket | None,
    launcher: Launcher,
) -> None:
    """Run until told to end, or until the lifetime is over."""
    asyncio.run(_Guest(config, launcher).run(listener, first, port))


class _Guest:
    def __init__(self, config: BootConfig, launcher: Launcher) -> None:
        self._config = config
        key = config.guest_key
        self._hub = GuestHub(
            os.urandom(16).hex(),
            config.control_verifier,
            guest_key=None if key is None else bytes.fromhex(key),
        )
        self._hub.look = self._look
        self._ended = asyncio.Event()
        self._carriers: Carriers | None = None
        self._port: Port | None = None
        sinks = self._sinks = Sinks(self._hub)
        self._model = ModelEndpoint(self._hub, config.spool_dir)
        self._calls = Calls(sinks)
        self._processes = ProcessCalls(
            self._hub,
            sinks,
            self._model,
            launcher,
            env={**os.environ, **config.env},
            workdir=config.workdir,
            spool_dir=config.spool_dir,
        )
        self._processes.register(self._calls)
        self._files = FileCalls(self._hub, sinks, config.workdir)
        self._files.register(self._calls)
        self._calls.add("about", self._about)
        self._calls.add("cut", self._cut)
        self._calls.add("stop", self._stop)
        self._calls.add("keep", self._keep)
        self._calls.add("forget", self._forget)
        self._kept_until: float | None = None

    async def run(
        self, listener: socket.socket, first: FirstAgent | None, port: socket.socket | None
    ) -> None:
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._ended.set)
        loop.add_signal_handler(signal.SIGCHLD, self._processes.reap)
        await self._model.listen(None if first is None else first.model_socket)
        if first is not None:
            self._processes.adopt(first)
            self._processes.reap()  # it may have ended before anybody listened
        carriers = self._carriers = Carriers(self._hub, listener)
        if port is not None:
            port_class = _load_port()
            self._port = port_class(self._hub, **(self._config.http or {}).get("options", {}))
            await self._port.serve(port)
        if self._config.lifetime is not None:
            loop.call_later(self._config.lifetime, self._ended.set)
        loop.call_later(_TICK, self._tick)
        await self._ended.wait()
        carriers.close()
        if self._port is not None:
            self._port.close()
        self._processes.kill_all()

    def _tick(self) -> None:
        asyncio.get_running_loop().call_later(_TICK, self._tick)
        now = time.monotonic()
        if self._carriers is not None:
            self._carriers.tick(now)
        if self._port is not None:
            self._port.tick(now)
        self._hub.tick(now)
        self._look(None)
        self._processes.tick()
        if self._kept_until is not None and now >= self._kept_until:
            if self._processes.is_driven:
                self._kept_until = None
            else:
                self._ended.set()

    def _look(self, link: GuestLink | None) -> None:
        """Do what the wire's state machine says happened."""
        while self._hub.events:
            self._happened(None, self._hub.events.popleft())
        while link is not None and link.events:
            self._happened(link, link.events.popleft())

    def _happened(self, link: GuestLink | None, event: Event) -> None:
        if isinstance(event, Received):
            if not self._model.received(event.sid, bytes(event.data)):
                self._sinks.received(event.sid, bytes(event.data))
        elif isinstance(event, Ended):
            if not self._model.ended(event.sid):
                self._sinks.ended(event.sid)
        elif isinstance(event, Called):
            assert link is not None
            self._calls.do(link, event.call, event.method, event.params)
        elif isinstance(event, DriverChanged):
            self._kept_until = None
            self._processes.driver_changed(event.agent)
        elif isinstance(event, LinkForgotten):
            self._sinks.link_forgotten(event.link_id)
            self._files.link_forgotten(event.link_id)
            self._processes.link_forgotten(event.link_id)

    def _stop(self, reply: Reply, _params: dict[str, Any]) -> None:
        """End the guest, as soon as this answer is on its way."""
        reply.ok(os.getpid())
        asyncio.get_running_loop().call_later(_LAST_WORD, self._ended.set)

    def _keep(self, reply: Reply, params: dict[str, Any]) -> None:
        """End the guest after so many seconds, unless a driver comes before."""
        self._kept_until = time.monotonic() + float(params["seconds"])
        reply.ok()

    def _forget(self, reply: Reply, params: dict[str, Any]) -> None:
        """Forget a link of the same host that it has given up: what it had started ends."""
        if params["link"] != reply.link.link_id:
            self._hub.forget_link(str(params["link"]))
            self._look(None)
        reply.ok()

    def _about(self, reply: Reply, _params: dict[str, Any]) -> None:
        kept = None if self._kept_until is None else self._kept_until - time.monotonic()
        reply.ok({**about(self._hub, self._config.workdir), "kept_for": kept})

    def _cut(self, reply: Reply, params: dict[str, Any]) -> None:
        self._model.cut(str(params["agent"]), str(params["stream"]))
        reply.ok()


def _load_port() -> type[Port]:
    """Import what only a guest with a port has: it lies in an archive beside this one."""
    import agenthost.guest

    beside = os.path.dirname(os.path.abspath(sys.path[0]))
    agenthost.guest.__path__.append(beside + "/http.pyz/agenthost/guest")
    from agenthost.guest.http.port import Port

    return Port

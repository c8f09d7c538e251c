"""What a host can have the guest do: finding the method, its parameters and its answer."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agenthost.wire.guest import GuestHub, GuestLink
from agenthost.wire.streams import RecvStream


class CallError(Exception):
    """A refusal that the host turns into a typed error; ``kind`` says which."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Reply:
    """Answers one call, once, at once or later."""

    def __init__(self, link: GuestLink, call: int) -> None:
        self.link = link
        self._call = call

    def ok(self, value: Any = None) -> None:
        """It was done."""
        self.link.answer(self._call, ok=True, value=value)

    def fail(self, exc: Exception) -> None:
        """It was not."""
        if isinstance(exc, OSError):
            value = {
                "type": "OSError",
                "errno": exc.errno,
                "message": exc.strerror or str(exc),
                "path": exc.filename if isinstance(exc.filename, str) else None,
            }
        elif isinstance(exc, CallError):
            value = {"type": exc.kind, "message": str(exc)}
        else:
            value = {"type": "BadCall", "message": f"{type(exc).__name__}: {exc}"}
        self.link.answer(self._call, ok=False, value=value)


Handler = Callable[[Reply, dict[str, Any]], None]


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class _Sink:
    receive: Callable[[bytes], None]
    end: Callable[[], None]
    give_up: Callable[[], None] = _nothing
    link: str | None = None


class Sinks:
    """Where the bytes of streams from the host go, by stream id."""

    def __init__(self, hub: GuestHub) -> None:
        self._hub = hub
        self._sinks: dict[str, _Sink] = {}

    def add(self, sid: str, receive: Callable[[bytes], None], end: Callable[[], None]) -> None:
        """Send what arrives on ``sid`` to ``receive``, and its end to ``end``."""
        self._sinks[sid] = _Sink(receive, end)

    def take_in(
        self,
        link: GuestLink,
        sid: str,
        receive: Callable[[bytes], None],
        end: Callable[[], None],
        give_up: Callable[[], None] = _nothing,
    ) -> None:
        """Expect a new stream from this link, and consume it as it comes.

        ``give_up`` instead of ``end`` is called when the rest of it will never come.
        """
        stream = RecvStream(sid, offset=0, window=self._hub.settings.window)

        def received(data: bytes) -> None:
            receive(data)
            self._hub.consumed(stream, len(data))

        def ended() -> None:
            self.remove(sid)
            end()

        self._sinks[sid] = _Sink(received, ended, give_up, link.link_id)
        link.expect(stream)

    def give_up(self, sid: str) -> None:
        """The rest of a stream that was taken in will never come."""
        sink = self._sinks.get(sid)
        if sink is not None and sink.link is not None:
            self.remove(sid)
            sink.give_up()

    def link_forgotten(self, link_id: str) -> None:
        """Give up what this link was sending."""
        for sid in [sid for sid, sink in self._sinks.items() if sink.link == link_id]:
            self.give_up(sid)

    def remove(self, sid: str) -> None:
        """Drop what still arrives, and tell the host to send no more of it."""
        if self._sinks.pop(sid, None) is not None:
            for link in self._hub.links.values():
                link.refuse(sid)

    def received(self, sid: str, data: bytes) -> None:
        """Hand bytes over."""
        if sid in self._sinks:
            self._sinks[sid].receive(data)

    def ended(self, sid: str) -> None:
        """Hand an end over."""
        if sid in self._sinks:
            self._sinks[sid].end()


class Calls:
    """The table of methods."""

    def __init__(self, sinks: Sinks) -> None:
        self._sinks = sinks
        self._handlers: dict[str, Handler] = {}

    def add(self, method: str, handler: Handler) -> None:
        """Add a method. What the handler raises is the answer."""
        self._handlers[method] = handler

    def do(self, link: GuestLink, call: int, method: str, params: dict[str, Any]) -> None:
        """Do one call. Large parameters come as a stream of JSON, named by ``$body``."""
        reply = Reply(link, call)
        body = params.get("$body")
        if body is None:
            self._run(reply, method, params)
            return
        parts: list[bytes] = []
        self._sinks.take_in(
            link, str(body), parts.append, lambda: self._run(reply, method, json.loads(b"".join(parts)))
        )

    def _run(self, reply: Reply, method: str, params: dict[str, Any]) -> None:
        handler = self._handlers.get(method)
        try:
            if handler is None:
                raise CallError("Unsupported", f"this guest knows no call {method!r}")
            handler(reply, params)
        except Exception as exc:  # noqa: BLE001 - told to the host: a call without an answer would hang it
            reply.fail(exc)


def about(hub: GuestHub, workdir: str) -> dict[str, Any]:
    """Return what a host wants to know before it starts an agent."""
    return {
        "boot_id": hub.boot_id,
        "python": platform.python_version(),
        "executable": sys.executable,
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
        "uid": os.getuid(),
        "workdir": workdir,
    }

"""The calls ``read`` and ``write``."""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from typing import Any

from agenthost.guest.calls import Calls, Reply, Sinks
from agenthost.guest.files import FileWriter, named, open_for_reading, read_all, resolve
from agenthost.guest.spool import FileSpool
from agenthost.wire.guest import GuestHub
from agenthost.wire.spool import MemorySpool, Spool
from agenthost.wire.streams import SendStream


class FileCalls:
    """Files by path; relative ones from the working directory."""

    def __init__(self, hub: GuestHub, sinks: Sinks, workdir: str) -> None:
        self._hub = hub
        self._sinks = sinks
        self._workdir = workdir
        self._reading: dict[str, tuple[str, Spool]] = {}  # files on their way to a host, and its link

    def register(self, calls: Calls) -> None:
        """Add the methods."""
        calls.add("read", self._read)
        calls.add("write", self._write)
        calls.add("close", self._close)

    def link_forgotten(self, link_id: str) -> None:
        """Close what nobody will read to its end."""
        for sid in [sid for sid, (link, _) in self._reading.items() if link == link_id]:
            self._stop_reading(sid)

    def _read(self, reply: Reply, params: dict[str, Any]) -> None:
        """Answer with the bytes when they are few, else send them on the stream that the host named."""
        path = str(params["path"])
        with named(path):
            fd, size = open_for_reading(resolve(path, self._workdir, follow=True))
        most = params.get("max")
        if most is not None and size > most:
            os.close(fd)
            reply.ok({"size": size})  # the host refuses it by that
            return
        if size > self._hub.settings.inline_body:
            self._send(reply, str(params["stream"]), FileSpool(fd, size))
            return
        try:
            with named(path):
                data = read_all(fd)
        finally:
            os.close(fd)
        if most is not None and len(data) > most:
            reply.ok({"size": len(data)})
        elif len(data) <= self._hub.settings.inline_body:
            reply.ok({"data": b64encode(data).decode("ascii")})
        else:  # a file that tells no size, such as those in /proc
            spool = MemorySpool()
            spool.append(data)
            self._send(reply, str(params["stream"]), spool)

    def _send(self, reply: Reply, sid: str, spool: Spool) -> None:
        stream = SendStream(sid, bound=spool.end, spool=spool)
        stream.end()
        # Until the host closes it: what it has acknowledged it may still ask the end of, after a cut.
        self._reading[sid] = (reply.link.link_id, spool)
        self._hub.add_stream(stream, link=reply.link.link_id)
        reply.ok({"size": spool.end})

    def _close(self, reply: Reply, params: dict[str, Any]) -> None:
        """The host is done with a stream: one that it reads, or one whose rest it will not send."""
        sid = str(params["stream"])
        self._stop_reading(sid)
        self._sinks.give_up(sid)
        reply.ok()

    def _stop_reading(self, sid: str) -> None:
        if sid in self._reading:
            self._hub.remove_stream(sid)
            self._reading.pop(sid)[1].close()

    def _write(self, reply: Reply, params: dict[str, Any]) -> None:
        """Take the bytes from the parameters, or from the stream that they name."""
        path = str(params["path"])
        with named(path):
            writer = FileWriter(resolve(path, self._workdir, follow=False), int(params["mode"]))
        if "data" in params:
            try:
                with named(path):
                    writer.write(b64decode(params["data"]))
                    writer.commit()
            except BaseException:
                writer.abort()
                raise
            reply.ok()
            return
        sid = str(params["stream"])

        def received(data: bytes) -> None:
            try:
                with named(path):
                    writer.write(data)
            except OSError as exc:
                writer.abort()
                self._sinks.remove(sid)
                reply.fail(exc)

        def ended() -> None:
            try:
                with named(path):
                    writer.commit()
            except OSError as exc:
                reply.fail(exc)
            else:
                reply.ok()

        self._sinks.take_in(reply.link, sid, received, ended, writer.abort)

"""The program in the sandbox: one call, told as JSON in an argument, answered as JSON or as an archive."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from agenthost.files.inside.digests import digests_below
from agenthost.files.inside.entries import look, look_into, remove, resolve
from agenthost.files.inside.packing import Packed, pack
from agenthost.files.inside.rules import Rules
from agenthost.files.inside.staging import Stage, discard
from agenthost.files.inside.tar import Limits, RefusedError
from agenthost.files.inside.unpacking import Unpacker

LENGTH = 4  # bytes of a piece's length, most significant first; a length of 0 ends an archive that is whole


@dataclass
class Streams:
    """Where an archive comes from, where it goes or an answer does, and where errors do."""

    source: IO[bytes]
    out: IO[bytes]
    err: IO[bytes]

    def answer(self, value: object) -> None:
        """Send an answer: ASCII, whatever bytes a name has."""
        self.out.write(json.dumps(value).encode("ascii") + b"\n")


def main() -> int:
    """Do the call in the last argument."""
    return run(sys.argv[-1], Streams(sys.stdin.buffer, sys.stdout.buffer, sys.stderr.buffer))


def run(argument: str, streams: Streams) -> int:
    """Do one call and return the exit code. What goes wrong is told on stderr, as JSON in the last line."""
    call: dict[str, Any] = json.loads(argument)
    shown = str(call["path"])
    told: dict[str, object]
    try:
        path = resolve(shown, call["workdir"], follow=call.get("follow", True))
        _CALLS[call["do"]](call, path, shown, streams)
        streams.out.flush()
    except OSError as error:
        name = error.filename if isinstance(error.filename, str) else shown
        told = {"errno": error.errno, "text": error.strerror or str(error), "path": name}
    except RefusedError as error:
        told = {"refused": str(error)}
    else:
        return 0
    streams.err.write(json.dumps(told).encode("ascii") + b"\n")
    return 1


def _stat(call: dict[str, Any], path: str, shown: str, streams: Streams) -> None:
    streams.answer(look(path, shown, follow=call["follow"]))


def _list(_: dict[str, Any], path: str, shown: str, streams: Streams) -> None:
    streams.answer(look_into(path, shown))


def _remove(call: dict[str, Any], path: str, shown: str, streams: Streams) -> None:
    remove(path, shown, recursive=call["recursive"])
    streams.answer(None)


def _digest(call: dict[str, Any], path: str, _: str, streams: Streams) -> None:
    streams.answer(digests_below(path, call["bounds"]))


def _discard(call: dict[str, Any], path: str, _: str, streams: Streams) -> None:
    discard(path, call["stage"])
    streams.answer(None)


def _pack(call: dict[str, Any], path: str, shown: str, streams: Streams) -> None:
    try:
        for piece in pack(path, _rules(call), Limits(*call["limits"]), Packed(), everything=True):
            streams.out.write(piece)
    except OSError as error:
        if isinstance(error.filename, str):  # below the path that the caller knows
            error.filename = os.path.normpath(os.path.join(shown, os.path.relpath(error.filename, path)))
        raise


def _unpack(call: dict[str, Any], path: str, _: str, streams: Streams) -> None:
    stage = Stage(path, call["stage"])
    try:
        unpacker = Unpacker(stage, _rules(call), Limits(*call["limits"]))
        try:
            for piece in _sent(streams.source):
                unpacker.feed(piece)
            unpacker.finish()
        finally:
            unpacker.close()
    finally:
        stage.close()
    told = unpacker.told
    streams.answer({"files": told.files, "size": told.size, "refused": told.refused})


def _sent(source: IO[bytes]) -> Iterator[bytes]:
    """Yield the pieces of an archive. RefusedError when it ends before it was said to be whole."""
    while True:
        head = source.read(LENGTH)
        length = int.from_bytes(head, "big")
        if len(head) == LENGTH and not length:
            return
        piece = source.read(length)
        if len(head) < LENGTH or len(piece) < length:
            raise RefusedError("the transfer was broken off")
        yield piece


def _rules(call: dict[str, Any]) -> Rules:
    return Rules(*([str(line) for line in lines] for lines in call["rules"]))


_CALLS: dict[str, Callable[[dict[str, Any], str, str, Streams], None]] = {
    "stat": _stat,
    "list": _list,
    "remove": _remove,
    "digest": _digest,
    "discard": _discard,
    "pack": _pack,
    "unpack": _unpack,
}

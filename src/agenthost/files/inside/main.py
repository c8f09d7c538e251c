"""The program in the sandbox: one call, told as JSON in an argument, answered as JSON or as an archive."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from agenthost.files.inside.entries import look, look_into, remove, resolve
from agenthost.files.inside.packing import Packed, named, pack
from agenthost.files.inside.rules import Rules
from agenthost.files.inside.staging import Stage, discard
from agenthost.files.inside.tar import Limits, RefusedError
from agenthost.files.inside.unpacking import Unpacker

LENGTH = 4  # bytes of a piece's length, most significant first; a length of 0 ends an archive that is whole


def run(argument: str) -> int:
    """Do one call. What goes wrong is told on stderr, as JSON in the last line."""
    call: dict[str, Any] = json.loads(argument)
    shown = str(call["path"])
    try:
        path = resolve(shown, call["workdir"], follow=call.get("follow", True))
        _CALLS[call["do"]](call, path, shown)
        sys.stdout.flush()
    except OSError as error:
        name = error.filename if isinstance(error.filename, str) else shown
        text = error.strerror or str(error)
        sys.stderr.write(json.dumps({"errno": error.errno, "text": text, "path": name}) + "\n")
        return 1
    except RefusedError as error:
        sys.stderr.write(json.dumps({"refused": str(error)}) + "\n")
        return 1
    return 0


def _stat(call: dict[str, Any], path: str, shown: str) -> None:
    _answer(look(path, shown, follow=call["follow"]))


def _list(_: dict[str, Any], path: str, shown: str) -> None:
    _answer(look_into(path, shown))


def _remove(call: dict[str, Any], path: str, shown: str) -> None:
    remove(path, shown, recursive=call["recursive"])
    _answer(None)


def _discard(call: dict[str, Any], path: str, _: str) -> None:
    discard(path, call["stage"])
    _answer(None)


def _pack(call: dict[str, Any], path: str, shown: str) -> None:
    with named(shown):
        os.chdir(path)  # so that errors of what is in it are told below the path that the caller knows
    try:
        for piece in pack(".", _rules(call), Limits(*call["limits"]), Packed(), everything=True):
            sys.stdout.buffer.write(piece)
    except OSError as error:
        if isinstance(error.filename, str):
            error.filename = os.path.normpath(os.path.join(shown, error.filename))
        raise


def _unpack(call: dict[str, Any], path: str, _: str) -> None:
    stage = Stage(path, call["stage"])
    try:
        unpacker = Unpacker(stage, _rules(call), Limits(*call["limits"]))
        try:
            for piece in _sent():
                unpacker.feed(piece)
            unpacker.finish()
        finally:
            unpacker.close()
    finally:
        stage.close()
    told = unpacker.told
    _answer({"files": told.files, "size": told.size, "refused": told.refused})


def _sent() -> Iterator[bytes]:
    """Yield the pieces on stdin. RefusedError when it ends before it was said to be whole."""
    source = sys.stdin.buffer
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
    return Rules(*([(bool(out), str(text)) for out, text in rules] for rules in call["rules"]))


def _answer(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")


_CALLS: dict[str, Callable[[dict[str, Any], str, str], None]] = {
    "stat": _stat,
    "list": _list,
    "remove": _remove,
    "discard": _discard,
    "pack": _pack,
    "unpack": _unpack,
}

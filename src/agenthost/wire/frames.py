"""Frames: one line of ASCII JSON, and raw bytes behind it on a byte-clean carrier."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator
from typing import Any, cast

Header = dict[str, Any]


class ProtocolError(Exception):
    """The other end broke the wire's rules. The carrier must be closed; the link goes on with a new one."""


_dumps = json.JSONEncoder(separators=(",", ":")).encode


def encode(header: Header) -> bytes:
    """Return a frame without payload."""
    return _dumps(header).encode("ascii") + b"\n"


def encode_data(header: Header, payload: bytes, *, binary: bool) -> bytes:
    """Return a frame with a payload: raw behind the line, or base64 in it."""
    if binary:
        return _dumps({**header, "n": len(payload)}).encode("ascii") + b"\n" + payload
    return _dumps({**header, "b": b64encode(payload).decode("ascii")}).encode("ascii") + b"\n"


class Decoder:
    """Cuts what arrives into frames, however it was split on the way."""

    def __init__(self, *, max_line: int, max_payload: int) -> None:
        self._max_line = max_line
        self._max_payload = max_payload
        self._buffer = bytearray()
        self._searched = 0
        self._header: Header | None = None
        self._wanted = 0

    def feed(self, data: bytes) -> Iterator[tuple[Header, bytes]]:
        """Yield each frame that ``data`` completes, with its payload.

        Raises:
            ProtocolError: A line is too long, is no JSON object, or has a payload out of bounds.
        """
        self._buffer += data
        while True:
            if self._header is not None:
                if len(self._buffer) < self._wanted:
                    return
                header, payload = self._header, bytes(memoryview(self._buffer)[: self._wanted])
                del self._buffer[: self._wanted]
                self._header = None
                yield header, payload
                continue
            end = self._buffer.find(b"\n", self._searched)
            if end < 0:
                self._searched = len(self._buffer)
                if self._searched > self._max_line:
                    raise ProtocolError(f"a frame line is longer than {self._max_line} bytes")
                return
            line = bytes(memoryview(self._buffer)[:end])
            del self._buffer[: end + 1]
            self._searched = 0
            if line:  # an empty line is padding that some carriers need
                yield from self._line(line)

    def _line(self, line: bytes) -> Iterator[tuple[Header, bytes]]:
        try:
            parsed: object = json.loads(line)
        except ValueError as exc:
            raise ProtocolError("a frame line is not JSON") from exc
        if not isinstance(parsed, dict):
            raise ProtocolError("a frame is not a JSON object")
        header = cast("Header", parsed)
        if "n" in header:
            wanted = header["n"]
            if type(wanted) is not int or not 0 <= wanted <= self._max_payload:
                raise ProtocolError("a payload's size is out of bounds")
            self._header, self._wanted = header, wanted
        elif "b" in header:
            try:
                payload = b64decode(header["b"], validate=True)
            except (ValueError, TypeError) as exc:
                raise ProtocolError("a payload is not base64") from exc
            if len(payload) > self._max_payload:
                raise ProtocolError("a payload's size is out of bounds")
            yield header, payload
        else:
            yield header, b""

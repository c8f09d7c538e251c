"""What a client sends: heads and bodies of HTTP/1.1, within bounds."""

from __future__ import annotations

from dataclasses import dataclass

from agenthost.wire.admission import HEADER

HEAD_LIMIT = 16 * 1024  # bytes of a request's head; vendors' edges add a few KiB of their own headers
BODY_LIMIT = 256 * 1024  # bytes of a batch
_CHUNK_LINE = 128  # bytes of the line before a chunk
_ONCE = (HEADER, "content-length", "transfer-encoding")


class BadRequestError(Exception):
    """A request is malformed or too large."""


@dataclass(frozen=True)
class Request:
    """The head of one request.

    Attributes:
        method, path: As they were sent.
        query: The values by name.
        token: The admission token, empty where there is none.
        length: Bytes of the body; None is a body in chunks.
        keep_alive: Whether the client takes another answer on the same connection.
    """

    method: str
    path: str
    query: dict[str, str]
    token: str
    length: int | None
    keep_alive: bool

    def number(self, name: str) -> int:
        """Return a natural number of the query. Raises BadRequestError."""
        text = self.query.get(name, "")
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise BadRequestError
        return int(text)


def parse_head(data: bytes) -> Request:
    """Return what a head asks for; ``data`` ends before the empty line. Raises BadRequestError."""
    first, *lines = data.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or parts[2] not in ("HTTP/1.0", "HTTP/1.1"):
        raise BadRequestError
    method, target, version = parts
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or name != name.strip() or (name in headers and name in _ONCE):
            raise BadRequestError
        headers[name] = value.strip()
    path, _, query = target.partition("?")
    return Request(
        method=method,
        path=path,
        query={name: value for name, _, value in (pair.partition("=") for pair in query.split("&"))},
        token=headers.get(HEADER, ""),
        length=_length(headers),
        keep_alive=version != "HTTP/1.0" and headers.get("connection", "").lower() != "close",
    )


def _length(headers: dict[str, str]) -> int | None:
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None:
        if coding.lower() != "chunked" or length is not None:
            raise BadRequestError
        return None
    return _size(length or "0", 10)


def _size(text: str, base: int) -> int:
    if not text.isascii() or not text.isalnum() or len(text) > 8:
        raise BadRequestError
    try:
        size = int(text, base)
    except ValueError:
        raise BadRequestError from None
    if size > BODY_LIMIT:
        raise BadRequestError
    return size


class Body:
    """Collects one body from what arrives.

    Args:
        length: As in Request.
    """

    def __init__(self, length: int | None) -> None:
        self._chunked = length is None
        self._left = length or 0  # of the body or of the chunk
        self._after_chunk = False  # its line end comes next
        self._in_trailer = False
        self._data = bytearray()

    def feed(self, buffer: bytearray) -> bytes | None:
        """Take what belongs to the body from ``buffer``. Return the whole body when it is complete.

        Raises:
            BadRequestError: It is malformed or too large.
        """
        while True:
            if self._left:
                taken = buffer[: self._left]
                del buffer[: len(taken)]
                self._data += taken
                self._left -= len(taken)
                if self._left:
                    return None
                self._after_chunk = self._chunked
            if not self._chunked:
                return bytes(self._data)
            end = buffer.find(b"\r\n", 0, _CHUNK_LINE)
            if end < 0:
                if len(buffer) >= _CHUNK_LINE:
                    raise BadRequestError
                return None
            line = buffer[:end].decode("latin-1")
            del buffer[: end + 2]
            if self._in_trailer:
                if not line:
                    return bytes(self._data)
            elif self._after_chunk:
                if line:
                    raise BadRequestError
                self._after_chunk = False
            else:
                self._left = _size(line.partition(";")[0].strip(), 16)
                self._in_trailer = not self._left
                if len(self._data) + self._left > BODY_LIMIT:
                    raise BadRequestError

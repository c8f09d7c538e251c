"""Frames: one line of ASCII JSON, and raw bytes behind it on a byte-clean carrier."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator
from typing import Any, cast

from agenthost.wire.json_bounds import check_values
from agenthost.wire.seals import MARK, Seal

Header = dict[str, Any]
# Bytes of a stream; a view where they were cut out of something larger.
Data = bytes | memoryview


_MOST_VALUES = 64 * 1024  # in the line of one frame; the largest names every stream of a link


class ProtocolError(Exception):
    """The other end broke the wire's rules. The carrier must be closed; the link goes on with a new one."""


class SealError(ProtocolError):
    """What came was changed on its way, or is not the other end's."""


_dumps = json.JSONEncoder(separators=(",", ":")).encode


def encode(header: Header) -> bytes:
    """Return a frame without payload."""
    return _dumps(header).encode("ascii") + b"\n"


def data_parts(header: Header, payload: bytes, *, binary: bool) -> tuple[bytes, ...]:
    """Return a frame with a payload, in parts to be sent one after the other: large ones are not copied."""
    if binary:
        return _dumps({**header, "n": len(payload)}).encode("ascii") + b"\n", payload
    # Base64 holds nothing that JSON escapes: it goes into the line without another pass over it.
    return _dumps(header).encode("ascii")[:-1] + b',"b":"', b64encode(payload), b'"}\n'


def encode_data(header: Header, payload: bytes, *, binary: bool) -> bytes:
    """Return a frame with a payload: raw behind the line, or base64 in it."""
    return b"".join(data_parts(header, payload, binary=binary))


class Decoder:
    """Cuts what arrives into frames, however it was split on the way.

    Args:
        max_line: Bytes of the longest line taken.
        max_payload: Bytes of the longest payload taken.
        max_unsealed: Bytes behind which, where frames are sealed, a seal must come before another frame.
    """

    def __init__(self, *, max_line: int, max_payload: int, max_unsealed: int = 64 * 1024) -> None:
        self._max_line = max_line
        self._max_payload = max_payload
        self._max_unsealed = max_unsealed
        self._seal: Seal | None = None
        self._unsealed = 0  # bytes of the frames that wait
        self._waiting: list[tuple[Header, Data]] = []  # for their seal
        self._line = bytearray()  # of a line that is not complete
        self._header: Header | None = None  # of a frame whose payload is not complete
        self._missing = 0

    def expect_seals(self, seal: Seal) -> None:
        """Hand out nothing more before the seal behind it was right. Takes effect also within ``feed``."""
        self._seal = seal

    def feed(self, data: bytes) -> Iterator[tuple[Header, Data]]:
        """Yield each frame that ``data`` completes, with its payload; sealed ones when their seal has come.

        A raw payload that came in pieces is yielded in pieces, each as a frame of its own with its offset
        in ``"o"``: a stream takes bytes in any portion, and putting them together would copy them.

        Raises:
            SealError: A seal is wrong, or none came in time.
            ProtocolError: A line is too long, is no JSON object, or has a payload out of bounds.
        """
        view = memoryview(data)
        at, size = 0, len(data)
        while at < size:
            if self._header is not None:
                header, piece = self._header, view[at : at + self._missing]
                at += len(piece)
                self._missing -= len(piece)
                self._header = {**header, "o": header["o"] + len(piece)} if self._missing else None
                if self._seal is None:
                    yield header, piece
                else:
                    self._keep_piece(self._seal, header, piece)
                continue
            end = data.find(b"\n", at)
            stop = size if end < 0 else end
            if len(self._line) + stop - at > self._max_line:
                raise ProtocolError(f"a frame line is longer than {self._max_line} bytes")
            if end < 0:
                self._line += view[at:]
                return
            line = bytes(self._line) + data[at:end]
            self._line.clear()
            at = end + 1
            if not line:  # padding that some carriers need
                continue
            if self._seal is None:
                yield from self._on_line(line)
            elif line[:1] == MARK:
                yield from self._unseal(self._seal, line)
            else:
                self._keep(self._seal, line)

    def _unseal(self, seal: Seal, line: bytes) -> Iterator[tuple[Header, Data]]:
        """Yield what waited for this seal."""
        if not seal.check(line):
            raise SealError("a seal is wrong: what came is not what was sent")
        waiting, self._waiting, self._unsealed = self._waiting, [], 0
        yield from waiting

    def _keep(self, seal: Seal, line: bytes) -> None:
        """Keep a line's frame until its seal comes."""
        if self._unsealed >= self._max_unsealed:
            raise SealError("a seal did not come in time")
        seal.add(line + b"\n")
        self._unsealed += len(line)
        self._waiting.extend(self._on_line(line))

    def _keep_piece(self, seal: Seal, header: Header, piece: memoryview) -> None:
        """Keep a part of a payload until its seal comes."""
        seal.add(piece)
        self._unsealed += len(piece)
        self._waiting.append((header, piece))

    def _on_line(self, line: bytes) -> Iterator[tuple[Header, Data]]:
        try:
            check_values(line, most=_MOST_VALUES)
            parsed: object = json.loads(line.decode("ascii"))
        except (ValueError, RecursionError) as exc:  # RecursionError: nested too deeply
            raise ProtocolError("a frame line is not ASCII JSON within bounds") from exc
        if not isinstance(parsed, dict):
            raise ProtocolError("a frame is not a JSON object")
        header = cast("Header", parsed)
        if header.get("t") != "d":  # only a stream's bytes may come in portions
            if "n" in header or "b" in header:
                raise ProtocolError("a payload in a frame that has none")
            yield header, b""
        elif "n" in header:
            wanted = header["n"]
            if type(wanted) is not int or not 0 <= wanted <= self._max_payload:
                raise ProtocolError("a payload's size is out of bounds")
            if type(header.get("o")) is not int:
                raise ProtocolError("a payload without an offset")
            if wanted:
                self._header, self._missing = header, wanted
            else:
                yield header, b""
        elif "b" in header:
            try:
                payload = b64decode(header["b"], validate=True)
            except (ValueError, TypeError) as exc:
                raise ProtocolError("a payload is not base64") from exc
            if len(payload) > self._max_payload:
                raise ProtocolError("a payload's size is out of bounds")
            yield header, payload
        else:
            raise ProtocolError("a data frame without data")

"""How an engine sends stdout and stderr over one stream: frames of an 8-byte head and a payload."""

from __future__ import annotations

STDOUT = 1
STDERR = 2
_SYSTEM_ERROR = 3  # the engine itself failed
_HEAD = 8
_LARGEST = 64 * 1024 * 1024  # bytes; engines send at most 64 KiB at once, so this is no frame's head


class Demultiplexer:
    """Takes a stream apart. A frame is not a line: engines split and join as they please."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Return what has arrived by now: pairs of STDOUT or STDERR and bytes, in order, none of them empty.

        The part of a frame that is there is returned at once, so that nothing waits for its rest.

        Raises:
            ValueError: This is no such stream.
        """
        self._buffer += data
        found: list[tuple[int, bytes]] = []
        start = 0
        view = bytes(self._buffer)
        while len(view) - start >= _HEAD:
            kind, size = view[start], int.from_bytes(view[start + 4 : start + _HEAD], "big")
            if kind > _SYSTEM_ERROR or view[start + 1 : start + 4] != b"\0\0\0" or size > _LARGEST:
                raise ValueError("the engine sent something else than frames")
            payload = view[start + _HEAD : start + _HEAD + size]
            if payload:
                found.append((kind, payload))
            start += _HEAD + len(payload)
            if len(payload) < size:
                # What is left of this frame goes on under a head of its own.
                rest = bytes((kind, 0, 0, 0)) + (size - len(payload)).to_bytes(4, "big")
                self._buffer = bytearray(rest)
                return found
        self._buffer = bytearray(view[start:])
        return found


def printed(data: bytes) -> tuple[bytes, bytes]:
    """Return stdout and stderr of a whole stream.

    Raises:
        ValueError: This is no such stream.
    """
    parts = Demultiplexer().feed(data)
    out = b"".join(payload for kind, payload in parts if kind == STDOUT)
    return out, b"".join(payload for kind, payload in parts if kind >= STDERR)

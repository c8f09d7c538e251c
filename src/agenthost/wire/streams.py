"""One stream, seen by its sender and by its receiver."""

from __future__ import annotations

from collections.abc import Callable

from agenthost.wire.frames import Data, ProtocolError
from agenthost.wire.spool import MemorySpool, Spool


class SendStream:
    """The sender's end: keeps bytes until they are acknowledged, for any number of readers.

    Acknowledged bytes stay for replays while all fits ``keep`` (None is ``bound``) and the disk;
    unacknowledged ones are never removed.
    """

    def __init__(self, sid: str, *, bound: int, keep: int | None = None, spool: Spool | None = None) -> None:
        self.sid = sid
        self.bound = bound
        self._keep = bound if keep is None else keep
        self.spool: Spool = spool if spool is not None else MemorySpool()
        self.acked = self.spool.base
        self.ended = False
        self.stopped = False
        self.shown = 0  # bytes from the beginning that whoever acknowledges may have seen
        # Called when there is something new to send; each link that reads this stream adds one.
        self.readers: set[Callable[[str], None]] = set()
        # Called when the reader made room or does not want more.
        self.on_room: Callable[[], None] = lambda: None

    @property
    def end_offset(self) -> int:
        """Bytes written so far."""
        return self.spool.end

    @property
    def room(self) -> int:
        """How many bytes may still be written; 0 or less means: write no more now."""
        return self.bound - (self.spool.end - self.acked)

    def write(self, data: bytes) -> None:
        """Add bytes. The caller looks at ``room``; OSError when the spool's disk is full."""
        if self.ended:
            raise ValueError(f"stream {self.sid} has ended")
        if self.stopped or not data:
            return
        try:
            self.spool.append(data)
        except OSError:
            # What is kept for replays only must not stop the one who writes.
            self.spool.trim(self.acked)
            self.spool.append(data)
        self._trim()
        self._tell_readers()

    def end(self) -> None:
        """Say that no more bytes come. Idempotent."""
        if not self.ended:
            self.ended = True
            self._tell_readers()

    def stop(self) -> None:
        """Take note that the receiver wants no more."""
        if not self.stopped:
            self.stopped = True
            self.spool.close()
            self.acked = self.spool.end
            self.on_room()

    def acknowledge(self, offset: int) -> None:
        """Take note that the receiver has everything below ``offset``. Older news changes nothing."""
        if offset > self.spool.end:
            raise ProtocolError(f"stream {self.sid}: {offset} acknowledged, {self.spool.end} sent")
        if offset > self.acked:
            self.acked = offset
            self._trim()
            self.on_room()

    def _trim(self) -> None:
        keep_from = min(self.acked, self.spool.end - self._keep)
        if keep_from > self.spool.base:
            self.spool.trim(keep_from)

    def _tell_readers(self) -> None:
        for reader in tuple(self.readers):
            reader(self.sid)


class RecvStream:
    """The receiver's end: takes each byte once and in order, and grants credit.

    ``offset`` is None until the first byte when reading begins at the oldest byte kept.
    """

    def __init__(self, sid: str, *, offset: int | None, window: int) -> None:
        self.sid = sid
        self.offset = offset
        self.window = window
        self.consumed = offset or 0
        self.acked = offset or 0
        self.ended = False
        self.held = 0  # bytes that the owner cannot consume yet, because it was not handed them
        self.limit = self.consumed + window
        self._told_limit = self.limit

    def receive(self, offset: int, data: Data) -> Data:
        """Return what of ``data`` is new.

        Raises:
            ProtocolError: A gap, bytes beyond the credit, or bytes behind the end.
        """
        if self.offset is None:
            self.offset = self.consumed = self.acked = offset
            self.limit = self._told_limit = offset + self.window
        if offset > self.offset:
            raise ProtocolError(f"stream {self.sid}: {offset} arrived, {self.offset} was next")
        new = data[self.offset - offset :] if offset < self.offset else data
        if not new:
            return b""
        if self.ended:
            raise ProtocolError(f"stream {self.sid}: bytes behind its end")
        if self.offset + len(new) > self.limit:
            raise ProtocolError(f"stream {self.sid}: more bytes than there was credit for")
        self.offset += len(new)
        return new

    def finish(self, offset: int) -> bool:
        """Take note of the end; True the first time.

        Raises:
            ProtocolError: The end is not where the bytes stopped.
        """
        if self.offset is None:
            self.offset = self.consumed = self.acked = offset
        if offset != self.offset:
            raise ProtocolError(f"stream {self.sid}: ends at {offset}, {self.offset} bytes arrived")
        first, self.ended = not self.ended, True
        return first

    def consume(self, count: int) -> None:
        """Take note that the owner is done with ``count`` bytes, which makes credit for as many."""
        self.consumed += count
        self._extend()

    def _extend(self) -> None:
        self.limit = max(self.limit, self.consumed + self.held + self.window)

    def widen(self, window: int) -> None:
        """Give credit for a window that may be larger."""
        self.window = max(self.window, window)
        self._extend()

    def credit_is_due(self) -> bool:
        """Return True once for each half window of new credit: telling less is not worth a frame."""
        if self.limit - self._told_limit < self.window // 2:
            return False
        self._told_limit = self.limit
        return True


class LineInput(RecvStream):
    """An agent's input, owned by the driver: hands out whole lines only.

    A driver that died in the middle of a line never sent it: ``rewind`` forgets the part that came.
    """

    def __init__(self, sid: str, *, window: int, max_line: int) -> None:
        super().__init__(sid, offset=0, window=window)
        self._max_line = max_line
        self._part: list[bytes] = []

    def receive(self, offset: int, data: Data) -> bytes:
        """Return the lines that ``data`` completes."""
        new = bytes(super().receive(offset, data))
        if not new:
            return b""
        cut = new.rfind(b"\n") + 1
        if cut == 0:
            self._part.append(new)
            self.held += len(new)
            lines = b""
        else:
            lines = b"".join([*self._part, new[:cut]])
            self._part = [new[cut:]] if cut < len(new) else []
            self.held = len(new) - cut
        if self.held > self._max_line:
            raise ProtocolError(f"stream {self.sid}: a line is longer than {self._max_line} bytes")
        # The part is held here, and its owner can consume it only when the rest has come: without credit for
        # it a long line would never complete. Not more than that: whole lines wait in the owner's memory.
        self._extend()
        return lines

    def rewind(self) -> None:
        """Forget an incomplete line, and the credit that was given for it."""
        self.offset = (self.offset or 0) - self.held
        self._part, self.held = [], 0
        self.acked = self.offset
        self.limit = self._told_limit = max(self.offset, self.consumed + self.window)

"""Durable processes: they outlive the link, their output is kept until it was taken."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sys
import termios
from collections import deque
from collections.abc import Callable

from agenthost.guest.agent_user import as_agent
from agenthost.guest.spawning import Spawned
from agenthost.guest.tree import kill_group, kill_tree
from agenthost.wire.streams import SendStream

_CHUNK = 256 * 1024
_PIPE = 1024 * 1024  # bytes a program may print before the guest has read any
_F_SETPIPE_SZ = 1031  # fcntl.F_SETPIPE_SZ; named there since Python 3.10, but not by every build
# After a program ended, a child of it may hold its output open for ever: wait this long for the end, seconds.
_DRAIN = 1.0
_FULL_DISK_RETRY = 0.5  # seconds until the guest looks again whether a full disk has room


class Output:
    """One output pipe of a process, read while its stream has room."""

    def __init__(self, fd: int, stream: SendStream, on_end: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._fd = fd
        self.stream = stream
        self._on_end = on_end
        self._reading = False
        self._held = b""  # read, but the disk was full
        self._owed: int | None = None  # bytes that the program left in the pipe when it ended
        os.set_blocking(fd, False)
        with contextlib.suppress(OSError):  # an unprivileged user may be at its limit: the usual 64 KiB then
            fcntl.fcntl(fd, _F_SETPIPE_SZ, _PIPE)
        stream.on_room = self._resume
        self._resume()

    @property
    def open(self) -> bool:
        """True until the pipe has ended."""
        return self._fd >= 0

    def finish(self) -> None:
        """End the stream behind what lies in the pipe now, as soon as there is room for that.

        What a child of the program prints later is read and dropped.
        """
        if self._fd >= 0 and not self.stream.ended:
            self._owed = int.from_bytes(fcntl.ioctl(self._fd, termios.FIONREAD, bytes(4)), sys.byteorder)
            if not self._owed and not self._held:
                self._end()
        self._resume()

    def _end(self) -> None:
        if not self.stream.ended:
            self.stream.end()
            self._on_end()

    def _resume(self) -> None:
        wanted = self.stream.room > 0 or self.stream.stopped or self.stream.ended
        if self._fd >= 0 and not self._reading and wanted and not self._held:
            self._reading = True
            self._loop.add_reader(self._fd, self._readable)

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, min(_CHUNK, self._owed or _CHUNK))
        except BlockingIOError:
            return
        if not data:
            self._pause()
            os.close(self._fd)
            self._fd = -1
            self._end()
            return
        if self._owed:
            self._owed -= len(data)
        if not self.stream.ended:
            self._keep(data)

    def _keep(self, data: bytes) -> None:
        try:
            self.stream.write(data)
        except OSError:  # the disk is full: hold this piece and read no more until there is room
            self._held = data
            self._pause()
            self._loop.call_later(_FULL_DISK_RETRY, self._retry)
            return
        if self._owed == 0:
            self._end()
        elif self.stream.room <= 0 and not self.stream.stopped:
            self._pause()

    def _retry(self) -> None:
        data, self._held = self._held, b""
        if data and not self.stream.ended:
            self._keep(data)
        self._resume()


class Input:
    """The stdin pipe of a process: takes bytes as fast as the program reads."""

    def __init__(self, fd: int, on_written: Callable[[int], None], on_broken: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._fd = fd
        self._pieces: deque[tuple[memoryview, bool]] = deque()  # and whether the host sent it
        self._writing = False
        self._ended = False
        self._on_written = on_written
        self._on_broken = on_broken
        os.set_blocking(fd, False)

    def write(self, data: bytes) -> None:
        """Write now what the pipe takes, the rest when it can."""
        if self._fd < 0:
            self._on_written(len(data))
            return
        self._add(data, sent=True)

    def insert(self, data: bytes) -> None:
        """Write something of the guest's own, behind what is to be written already."""
        if self._fd >= 0:
            self._add(data, sent=False)

    def _add(self, data: bytes, *, sent: bool) -> None:
        self._pieces.append((memoryview(data), sent))
        if not self._writing:
            self._flush()

    def end(self) -> None:
        """Close when all is written."""
        self._ended = True
        if self._fd >= 0 and not self._pieces:
            self._close()

    def close(self) -> None:
        """Close now, drop what was not written, and say that no more is wanted."""
        self._pieces.clear()
        if self._fd >= 0:
            self._close()
            self._on_broken()

    def _flush(self) -> None:
        while self._pieces:
            piece, sent = self._pieces[0]
            try:
                count = os.write(self._fd, piece)
            except BlockingIOError:
                if not self._writing:
                    self._writing = True
                    self._loop.add_writer(self._fd, self._flush)
                return
            except OSError:  # EPIPE: the program closed its stdin
                self.close()
                return
            if sent:
                self._on_written(count)
            if count == len(piece):
                self._pieces.popleft()
            else:
                self._pieces[0] = piece[count:], sent
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._fd)
        if self._ended:
            self._close()

    def _close(self) -> None:
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._fd)
        os.close(self._fd)
        self._fd = -1


class GuestProcess:
    """One program with its three pipes."""

    def __init__(
        self,
        spawned: Spawned,
        *,
        out: SendStream,
        err: SendStream,
        on_written: Callable[[int], None],
        on_broken: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._mark = spawned.mark
        self._spawned = spawned
        self.pid = spawned.pid
        self.exit_code: int | None = None
        self.link: str | None = None
        self.is_agent = False
        self._done = False
        self._waiting: list[Callable[[int], None]] = []
        self._streams = (out, err)
        self.stdin = Input(spawned.stdin, on_written, on_broken)
        self._outputs = (
            Output(spawned.stdout, out, self._check),
            Output(spawned.stderr, err, self._check),
        )

    @property
    def kept_output(self) -> tuple[int, int]:
        """From which byte on what it printed is kept, and how much it has printed."""
        out = self._streams[0]
        return out.spool.base, out.end_offset

    def when_done(self, callback: Callable[[int], None]) -> None:
        """Call back with the exit code (128 + N for signal N) when it and its output have ended."""
        if self._done:
            callback(self.exit_code or 0)
        else:
            self._waiting.append(callback)

    def exited(self, status: int) -> None:
        """Take note of the status that waitpid gave."""
        code = os.waitstatus_to_exitcode(status)
        self._spawned.collected(code)
        self.exit_code = 128 - code if code < 0 else code
        self.stdin.close()
        if self.is_agent and code < 0:
            self.kill()  # it could not end its CLI, which would go on, and spend, with nobody to read it
        if any(output.open for output in self._outputs):
            self._loop.call_later(_DRAIN, self._drained)
        self._check()

    def signal(self, signum: int) -> None:
        """Signal the whole process group."""
        if self.exit_code is None:
            with as_agent():
                try:
                    os.killpg(self.pid, signum)
                except ProcessLookupError:
                    return  # it has ended; waitpid will tell
                except PermissionError:
                    os.kill(self.pid, signum)  # a member of the group has changed its user

    def kill(self) -> None:
        """Kill the process and all that came of it.

        What a program left behind when it ended by itself stays, but for its group: it may be a server that
        was meant to stay. Of an agent nothing stays.
        """
        root = self.pid
        if self.exit_code is not None and os.path.exists(f"/proc/{root}"):
            root = -1  # it was collected, so another process has the number now, and no group has it
        if self.exit_code is None or self.is_agent:
            kill_tree(root, self._mark)
        elif root > 0:
            kill_group(root)

    def drop(self) -> None:
        """Want no more of its output."""
        self.stdin.close()
        for stream in self._streams:
            stream.stop()

    def _drained(self) -> None:
        for output in self._outputs:
            output.finish()

    def _check(self) -> None:
        if self.exit_code is None or self._done or not all(stream.ended for stream in self._streams):
            return
        self._done = True
        for callback in self._waiting:
            callback(self.exit_code)
        self._waiting.clear()

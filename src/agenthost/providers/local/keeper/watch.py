"""Watch one running sandbox and end it: its own end, its lifetime, or a SIGTERM."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from typing import TYPE_CHECKING

from agenthost.providers.local.keeper import cgroups, handles, removal, tree
from agenthost.providers.local.keeper.launch import become_subreaper

if TYPE_CHECKING:
    from agenthost.providers.local.keeper.disk import DiskWatch
    from agenthost.providers.local.keeper.job import Job

_LOG_BYTES = 256 * 1024
_TAIL_BYTES = 4096
_KILL_SECONDS = 5.0
# A sleeping machine does not advance a poll timeout, and a host writes files for the keeper: look at both at
# least this often, in seconds.
_LONGEST_WAIT = 2.0
_BETWEEN_COUNTS = 0.05  # seconds from one part of counting files to the next
_NEVER = float("inf")
_APPEND = os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


class Watch:
    """The keeper's main loop."""

    def __init__(self, job: Job, *, child: int, status: int, output: int) -> None:
        self._job = job
        self._child = child
        self._child_fd = handles.open_handle(child)
        self._status = status
        self._output = output
        self._log = job["directory"] + "/log"
        self._logged = 0
        self._tail = b""
        self._status_text = b""
        self._first_pid: int | None = None
        self._first_fd: int | None = None
        self._set_up = job["tree"] == "subreaper"
        self._exit: int | None = None
        self._why = "guest"
        self._asked_to_end = False

    def run(self) -> None:
        """Hold the sandbox until it ends; then remove all of it and report."""
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._report(b"up\n")
        # Not before: the sandbox starts meanwhile. It counts for what runs already, too.
        become_subreaper()

        poll = select.poll()
        for fd in (self._child_fd, self._status, self._output, wake_read):
            poll.register(fd, select.POLLIN)
        self._poll = poll
        ends_at = _now() + self._job["lifetime"]
        disk = self._disk_watch()
        while self._exit is None and not self._asked_to_end:
            if disk is not None and disk.look():
                self._why = "disk"
                break
            end, why = min(
                (ends_at, "lifetime"), (self._leased_until(), "lease"), (self._kept_until(), "keep")
            )
            if end <= _now():
                self._why = why
                break
            busy = disk is not None and disk.is_counting
            self._turn(min(end - _now(), _BETWEEN_COUNTS if busy else _LONGEST_WAIT))
        if self._exit is None:
            self._end()
        self._clean()

    def _disk_watch(self) -> DiskWatch | None:
        room, inodes, every = self._job["disk"]
        if room is None and inodes is None:
            return None
        from agenthost.providers.local.keeper.disk import DiskWatch

        return DiskWatch(self._job["directory"], room, inodes, every=every, uid=self._job["uid"])

    def _leased_until(self) -> float:
        if not self._job["leased"]:
            return _NEVER
        return self._moment("lease", missing=0.0)  # without its file, nobody wants it any more

    def _kept_until(self) -> float:
        return self._moment("keep", missing=_NEVER)

    def _moment(self, name: str, *, missing: float) -> float:
        """Return what a host wrote into a file of the sandbox's directory."""
        try:
            with open(f"{self._job['directory']}/{name}", encoding="ascii") as file:
                return float(file.read())
        except (OSError, ValueError):
            return missing

    def _on_term(self, _signal: int, _frame: object) -> None:
        self._asked_to_end = True
        self._why = "terminated"

    def _turn(self, seconds: float) -> None:
        """Wait for something to happen and take it in."""
        for fd, _ in self._poll.poll(max(0.0, seconds) * 1000):
            if fd == self._output:
                self._take_output()
            elif fd == self._status:
                self._take_status()
            elif fd == self._child_fd:
                self._take_exit()
            else:
                os.read(fd, 4096)

    def _take_output(self) -> None:
        data = os.read(self._output, 1 << 16)
        if not data:
            self._poll.unregister(self._output)
            return
        self._tail = (self._tail + data)[-_TAIL_BYTES:]
        try:
            if self._logged + len(data) > _LOG_BYTES:
                # The file before this one goes: two of them are the bound.
                os.rename(self._log, self._log + ".old")
                self._logged = 0
            fd = os.open(self._log, _APPEND, 0o600)
            try:
                self._logged += os.write(fd, data)
            finally:
                os.close(fd)
        except OSError:
            # A full disk must not end the sandbox. The tail is kept above.
            self._logged = 0

    def _take_status(self) -> None:
        data = os.read(self._status, 1 << 16)
        if not data:
            self._poll.unregister(self._status)
            return
        self._status_text += data
        *lines, self._status_text = self._status_text.split(b"\n")
        for line in lines:
            event = json.loads(line)
            if "child-pid" in event and self._first_fd is None:
                self._first_pid = event["child-pid"]
                self._first_fd = _open(event["child-pid"])
            # bubblewrap writes this only when its own work was done and the program inside ran.
            self._set_up = self._set_up or "exit-code" in event

    def _take_exit(self) -> None:
        _, status = os.waitpid(self._child, 0)
        code = os.waitstatus_to_exitcode(status)
        self._exit = code if code >= 0 else 128 - code
        # What cannot be set up ends with an exit code. What was killed could not tell how far it was.
        self._set_up = self._set_up or code < 0
        self._poll.unregister(self._child_fd)

    def _wait_for_exit(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self._exit is None:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._turn(left)
        return True

    def _end(self) -> None:
        """Ask the guest to end, then kill. It is asked itself: bubblewrap passes no signal on."""
        # Who the guest is may be told in what has not been read yet.
        self._drain()
        guest = self._guest()
        if guest is not None:
            handles.send(guest, signal.SIGTERM)
            os.close(guest)
            if self._wait_for_exit(self._job["grace"]):
                return
        # The first process of the namespace: the kernel kills all others with it, and bubblewrap ends
        # after they are gone.
        if self._first_fd is not None:
            handles.send(self._first_fd, signal.SIGKILL)
            if self._wait_for_exit(_KILL_SECONDS):
                return
        handles.send(self._child_fd, signal.SIGKILL)
        self._wait_for_exit(_KILL_SECONDS)

    def _guest(self) -> int | None:
        """Return an open handle of the program to be asked; None where it would not hear."""
        if self._job["tree"] == "subreaper":
            return _open(self._child)
        # The kernel drops what the first process of a namespace has no handler for: while the guest starts,
        # waiting for it would be in vain.
        if self._first_fd is None or self._first_pid is None or not tree.handles_term(self._first_pid):
            return None
        return os.dup(self._first_fd)

    def _nothing_runs(self) -> bool:
        if self._first_fd is not None:
            # bubblewrap ends with the guest; what else ran in its namespace dies a moment later.
            handles.send(self._first_fd, signal.SIGKILL)
        # Also what bubblewrap had not tied to itself yet when it was killed at its very beginning.
        return tree.kill_descendants(_KILL_SECONDS)

    def _drain(self) -> None:
        """Take what is there. A few turns do, since a pipe holds little; a flood has no end."""
        for _ in range(64):
            ready = [fd for fd, _ in self._poll.poll(0)]
            if self._status not in ready and self._output not in ready:
                return
            self._turn(0)

    def _clean(self) -> None:
        """Take the sandbox's directory out of the way, tell who still listens, then remove everything.

        What is in it decides how long that takes: two million files took 40 s. Nobody waits for it.
        """
        self._drain()
        problems = [] if self._nothing_runs() else ["some processes could not be killed"]
        self._drain()
        directory = self._job["directory"]
        groups = [path for path, _ in self._job["cgroups"]]
        words = {
            "set_up": self._set_up,
            "exit": self._exit,
            "why": self._why,
            "oom_kills": cgroups.oom_kills(groups),
            "log": self._tail.decode("utf-8", "replace"),
        }
        try:
            cgroups.remove(groups)
            directory = removal.take_away(directory)
        except OSError as error:
            problems.append(str(error))
        self._report((json.dumps({**words, "problems": problems}) + "\n").encode())
        os.close(self._job["report_fd"])
        try:
            removal.remove_all(directory)
        except OSError:
            # What is left is found by its free lock: the next list or reap removes it.
            return

    def _report(self, line: bytes) -> None:
        try:
            os.write(self._job["report_fd"], line)
        except BrokenPipeError:
            # The host is gone, or no longer interested.
            return


def _now() -> float:
    """Seconds on the clock that also runs while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _open(pid: int) -> int | None:
    try:
        return handles.open_handle(pid)
    except ProcessLookupError:
        return None

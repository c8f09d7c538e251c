"""The keeper: starts one sandbox from its main thread, holds its lifetime, ends it and cleans up.

It belongs to no terminal and to no host: the host that started it may die. Killing it kills the sandbox;
what is then left on disk is recognised by its lock, which only a living keeper holds.

Order matters for speed: the sandbox is started first, what watches it is imported while it comes up.
"""

from __future__ import annotations

import marshal
import os

from agenthost.providers.local.keeper.launch import launch
from agenthost.providers.local.keeper.numbers import LISTEN_FD, STATUS_FD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agenthost.providers.local.keeper.job import Job


def main() -> None:
    """Read the job, detach, hold the sandbox until it ends, exit."""
    job: Job = marshal.loads(_read_all(0))
    os.umask(0o077)
    for fd in (job["listen_fd"], job["report_fd"], *job["held_fds"]):
        os.set_inheritable(fd, False)
    _log_to_file(job)
    _detach(job)
    status_read, status_write = os.pipe()
    output_read, output_write = os.pipe()
    if job["cgroups"]:
        _make_cgroups(job)
    if job["signals"]:
        _reset_signals(job["signals"])
    child = launch(job, listen_to=LISTEN_FD, status=(status_write, STATUS_FD), output=output_write)
    for fd in (status_write, output_write, job["listen_fd"]):
        os.close(fd)
    # Only now: these take longer to import than bubblewrap takes to start.
    from agenthost.providers.local.keeper.watch import Watch

    Watch(job, child=child, status=status_read, output=output_read).run()


def _detach(job: Job) -> None:
    """Leave the process that the host waits for, once the state file names the one that stays."""
    read, write = os.pipe()
    if os.fork():
        os.close(write)
        os._exit(0 if os.read(read, 1) else 1)
    os.close(read)
    path = job["directory"] + "/state.json"
    text = '{"keeper": %d, %s' % (os.getpid(), job["state"].lstrip()[1:])  # noqa: UP031 - no braces to double
    fd = os.open(path + ".new", os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    os.write(fd, text.encode())
    os.close(fd)
    os.rename(path + ".new", path)
    os.write(write, b"1")
    os.close(write)


def _log_to_file(job: Job) -> None:
    """Have what the keeper itself prints, at most a traceback, in the sandbox's log."""
    log = os.open(
        job["directory"] + "/log",
        os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC,
        0o600,
    )
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(null)
    os.close(log)


def _reset_signals(numbers: list[int]) -> None:
    import signal

    for number in numbers:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _make_cgroups(job: Job) -> None:
    from agenthost.providers.local.keeper import cgroups

    cgroups.make(job["cgroups"])


def _read_all(fd: int) -> bytes:
    parts: list[bytes] = []
    while part := os.read(fd, 1 << 20):
        parts.append(part)
    return b"".join(parts)

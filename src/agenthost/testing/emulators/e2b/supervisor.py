"""The supervisor that runs beside every program in a sandbox, in the place of E2B's daemon.

A machine reports the end of a program as one number, in which a signal and an exit code look the same, and
stops listening soon after. The supervisor reports the status that the kernel gives, and passes output on
until every process that holds the program's pipes has closed them.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Mapping, Sequence

from agenthost.sandbox import Process

STDOUT, STDERR, EXIT = b"1", b"2", b"X"
_STARTED, _FAILED = b"P", b"F"
_HEAD = 5  # bytes of a message's kind and length

# Runs inside: where to start, whether stdin is wanted, how many variables; these, and the program.
_INSIDE = r"""
import os, select, signal, sys

def tell(kind, data):
    data = kind + len(data).to_bytes(4, "big") + data
    while data:
        data = data[os.write(1, data):]

cwd, stdin, count, *rest = sys.argv[1:]
kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
env = {**kept, **dict(one.split("=", 1) for one in rest[:int(count)])}
argv = rest[int(count):]
out, err, failed = os.pipe(), os.pipe(), os.pipe()
null = os.open("/dev/null", os.O_RDWR)
pid = os.fork()
if pid == 0:
    try:
        os.setsid()
        os.dup2(out[1], 1)
        os.dup2(err[1], 2)
        if stdin == "no":
            os.dup2(null, 0)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        os.chdir(cwd)
        os.execvpe(argv[0], argv, env)
    except OSError as error:
        os.write(failed[1], b"%d" % error.errno)
    finally:
        os._exit(127)
for number in (out[1], err[1], failed[1]):
    os.close(number)
os.dup2(null, 0)  # the program's input is its own
if reason := os.read(failed[0], 100):
    tell(b"F", reason)
    os._exit(0)
tell(b"P", b"%d" % pid)
open_pipes = {out[0]: b"1", err[0]: b"2"}
end = os.pidfd_open(pid)
ready = select.poll()
for number in (*open_pipes, end):
    ready.register(number, select.POLLIN)
waits = True
while waits or open_pipes:
    for number, _ in ready.poll():
        if number == end:
            tell(b"X", b"%d" % os.waitpid(pid, 0)[1])
            waits = False
            ready.unregister(end)
        elif data := os.read(number, 32768):
            tell(open_pipes[number], data)
        else:
            ready.unregister(number)
            del open_pipes[number]
"""


def command(argv: Sequence[str], *, cwd: str, env: Mapping[str, str], stdin: bool) -> list[str]:
    """Return the supervisor's command line for a program, which gets these variables and PATH alone."""
    variables = [f"{name}={value}" for name, value in env.items()]
    settings = [cwd, "yes" if stdin else "no", str(len(variables))]
    return ["python3", "-I", "-S", "-c", _INSIDE, *settings, *variables, *argv]


class Messages:
    """The messages of a supervisor."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._rest = bytearray()

    async def started(self) -> int:
        """Return the number of the process that was started. Raises OSError: it cannot be started."""
        kind, data = await self.next() or (_FAILED, b"%d" % errno.EIO)
        if kind == _FAILED:
            raise OSError(int(data), os.strerror(int(data)))
        assert kind == _STARTED
        return int(data)

    async def next(self) -> tuple[bytes, bytes] | None:
        """Return the next message; None at the end."""
        while True:
            size = _HEAD + int.from_bytes(self._rest[1:_HEAD], "big")
            if len(self._rest) >= max(size, _HEAD):
                found = bytes(self._rest[:1]), bytes(self._rest[_HEAD:size])
                del self._rest[:size]
                return found
            if not (data := await self._process.receive_stdout()):
                return None
            self._rest += data


def end_event(status: int) -> dict[str, object]:
    """Return the daemon's event for the end of a program, from the status of ``waitpid``."""
    if os.WIFEXITED(status):
        code = os.WEXITSTATUS(status)
        text = f"exit status {code}"
        return {"exitCode": code, "exited": True, "status": text, **({"error": text} if code else {})}
    name = (signal.strsignal(os.WTERMSIG(status)) or "unknown").lower()
    text = f"signal: {name}{' (core dumped)' if os.WCOREDUMP(status) else ''}"
    return {"exitCode": -1, "exited": False, "status": text, "error": text}

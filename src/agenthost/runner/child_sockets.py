"""Sockets in place of the pipes between this process and the CLI.

A pipe of another process of the same user can be opened anew at ``/proc/PID/fd/N``: the agent's programs
could write into the CLI's stdout what only the CLI is to say, or read its stdin. A socket cannot be opened
so. The kernel refuses it with ENXIO. stderr stays a pipe, because programs open ``/dev/stderr``, and nothing
is decided by what it says.
"""

from __future__ import annotations

import asyncio.unix_events
import socket
import subprocess
from types import ModuleType
from typing import Any, cast


class SocketPopen(subprocess.Popen[bytes]):
    """A Popen whose PIPE is a pair of sockets, for stdin and stdout."""

    def _get_handles(self, stdin: Any, stdout: Any, stderr: Any) -> tuple[int, ...]:
        """Return the descriptors of both ends of stdin, stdout and stderr, as ``subprocess`` wants them."""
        made: list[int] = []
        try:
            to_child = _pair(made) if stdin == subprocess.PIPE else None
            from_child = _pair(made) if stdout == subprocess.PIPE else None
            given = (to_child[0] if to_child else stdin, from_child[1] if from_child else stdout, stderr)
            whole = cast("Any", subprocess.Popen)
            found: list[int] = list(whole._get_handles(self, *given))  # noqa: SLF001 - there is no other place
        except BaseException:
            for fd in made:
                _close(fd)
            raise
        # Where both ends are named, Popen closes the child's in this process.
        if to_child:
            found[:2] = to_child
        if from_child:
            found[2:4] = from_child
        return tuple(found)


def use_sockets() -> None:
    """Have asyncio start programs with sockets. Nothing else in this process is changed."""
    shim = ModuleType("subprocess")
    shim.__dict__.update(vars(subprocess))
    shim.__dict__["Popen"] = SocketPopen
    cast("Any", asyncio.unix_events).subprocess = shim


def _pair(made: list[int]) -> tuple[int, int]:
    """Return the end that is read and the end that is written.

    Neither is shut down one way: asyncio would take that for the end of the program.
    """
    reader, writer = socket.socketpair()
    ends = reader.detach(), writer.detach()
    made.extend(ends)
    return ends


def _close(fd: int) -> None:
    socket.socket(fileno=fd).close()

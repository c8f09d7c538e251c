"""The two ways to a container's guest."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Sequence

import anyio
import anyio.lowlevel

from agenthost.link.carriers.socket import SocketCarrier
from agenthost.providers.docker import paths
from agenthost.providers.docker.engine import Engine
from agenthost.providers.docker.upgraded import UpgradedStream

_RUN = paths.RUN.removeprefix(f"{paths.BOOT}/")


async def dial_by_exec(engine: Engine, container: str, argv: Sequence[str], *, user: str) -> UpgradedStream:
    """Start a ``dial`` program in a container as the guest's user, and return its streams.

    Closing them ends the program, since its stdin ends; an engine kills nothing when a client goes away.

    Raises:
        EngineError: The engine refused.
        OSError: It does not answer.
    """
    body = {
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": False,
        "User": user,
        "Cmd": list(argv),
    }
    made = await engine.ask("POST", f"/containers/{container}/exec", body=body)
    return await engine.upgrade(f"/exec/{made['Id']}/start", {"Detach": False, "Tty": False})


async def dial_by_socket(volume: str) -> SocketCarrier:
    """Connect to the guest's socket in a volume of this machine. Raises OSError.

    What is in the volume is the sandbox's: no link in it is followed, or a sandbox could have this host
    speak to another socket of its machine.
    """
    await anyio.lowlevel.checkpoint()
    flags = os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW
    handles: list[int] = [os.open(volume, flags | os.O_DIRECTORY)]
    try:
        handles.append(os.open(_RUN, flags | os.O_DIRECTORY, dir_fd=handles[-1]))
        handles.append(os.open(paths.SOCKET_NAME, flags, dir_fd=handles[-1]))
        if not stat.S_ISSOCK(os.fstat(handles[-1]).st_mode):
            raise OSError(errno.ENOTSOCK, "the guest's socket is none")
        raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            raw.setblocking(False)
            raw.connect(f"/proc/self/fd/{handles[-1]}")
            return SocketCarrier(raw)
        except BaseException:
            raw.close()
            raise
    finally:
        for handle in handles:
            os.close(handle)

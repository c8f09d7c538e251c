"""A directory of the host into a sandbox, and one of a sandbox onto the host."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import IO, cast

from agenthost.agent.archive import MAX_MEMBERS, MAX_SIZE, Packed, Unpacked, pack, unpack
from agenthost.errors import AgentError, DownloadError
from agenthost.sandbox import Process, Sandbox
from agenthost.threads import in_thread

_IN_MEMORY = 32 * 1024 * 1024  # bytes of an archive that are kept out of a temporary file
_PIECE = 256 * 1024

# Programs for the Python that is in every sandbox that can hold an agent; not every one has ``tar``.
_UNPACK = """
import sys, tarfile
with tarfile.open(fileobj=sys.stdin.buffer, mode="r|*") as archive:
    extra = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    archive.extractall(sys.argv[1], **extra)
"""
_PACK = """
import os, sys, tarfile
os.chdir(sys.argv[1])
with tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=tarfile.PAX_FORMAT) as archive:
    def whole(info):
        if info.islnk():  # the second name of a file: a file, too
            info.type, info.linkname, info.size = tarfile.REGTYPE, "", os.stat(info.name).st_size
        return info
    for name in sorted(os.listdir(".")):
        archive.add(name, filter=whole)
"""


async def upload(sandbox: Sandbox, python: str, source: Path, target: str) -> Packed:
    """Copy a directory into the sandbox.

    Raises:
        ConfigError: ``source`` is no directory.
        AgentError: The sandbox could not take it.
    """
    with _temporary() as archive:
        packed = await in_thread(partial(pack, source, archive))
        archive.seek(0)
        async with sandbox.spawn([python, "-I", "-c", _UNPACK, target]) as process:
            try:
                while data := await in_thread(partial(archive.read, _PIECE)):
                    await process.send_stdin(data)
                await process.close_stdin()
            except BrokenPipeError:
                pass  # it has ended already; it has said why
            await _succeed(process, f"{source} cannot be unpacked in the sandbox")
    return packed


async def download(sandbox: Sandbox, python: str, source: str, target: Path) -> Unpacked:
    """Copy a directory out of the sandbox.

    Raises:
        AgentError: It cannot be read inside.
        DownloadError: It is larger than what is taken from a sandbox; nothing was written.
        OSError: It cannot be written here.
    """
    size = 0
    with _temporary() as archive:
        async with sandbox.spawn([python, "-I", "-c", _PACK, source]) as process:
            await process.close_stdin()
            while data := await process.receive_stdout():
                size += len(data)
                if size > _LARGEST:
                    raise DownloadError(
                        f"{source} is larger than {_LARGEST} bytes as an archive; nothing was written. "
                        "Download a part of it with source="
                    )
                await in_thread(partial(archive.write, data))
            await _succeed(process, f"{source} cannot be read in the sandbox")
        archive.seek(0)
        return await in_thread(partial(unpack, archive, target))


async def missing_paths(sandbox: Sandbox, paths: Sequence[str]) -> set[str]:
    """Return those of the paths that are not there in the sandbox."""
    if not paths:
        return set()
    script = 'for path; do [ -e "$path" ] || printf "%s\\0" "$path"; done'
    result = await sandbox.exec(["sh", "-c", script, "sh", *paths], cwd=sandbox.workdir)
    return {item.decode("utf-8", "surrogateescape") for item in result.stdout.split(b"\0") if item}


async def _succeed(process: Process, what: str) -> None:
    stderr = b""
    while data := await process.receive_stderr():
        stderr = (stderr + data)[-4096:]
    code = await process.wait()
    if code != 0:
        last = stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise AgentError(f"{what}: {last or f'exit code {code}'}")


# An archive within the limits of ``unpack``, with up to 2 KiB of headers and padding for each member.
_LARGEST = MAX_SIZE + 2048 * MAX_MEMBERS


def _temporary() -> IO[bytes]:
    # A spooled file is a context manager and reads and writes like any other.
    return cast("IO[bytes]", tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY))

"""The files of a machine as an archive: what the snapshots of emulators are made of."""

from __future__ import annotations

from collections.abc import Sequence

from agenthost.testing.emulators.base.machines import Machine

_MOST = 1 << 30  # bytes of an archive


async def pack(machine: Machine, directories: Sequence[str]) -> bytes:
    """Return what a machine has in these directories, by absolute path; its sockets are left out."""
    argv = ["tar", "-C", "/", "-cf", "-", "--exclude=*.sock", *(path[1:] for path in directories)]
    done = await machine.sandbox.exec(argv, max_output=_MOST)
    if done.exit_code > 1:  # 1: a file changed while it was read
        raise OSError(f"the files cannot be packed: {done.stderr.decode(errors='replace')}")
    return done.stdout


async def unpack(machine: Machine, archive: bytes) -> None:
    """Put what was packed where it was."""
    argv = ["tar", "-C", "/", "-xf", "-", "--no-same-owner", "--no-overwrite-dir"]
    done = await machine.sandbox.exec(argv, stdin=archive)
    if done.exit_code != 0:
        raise OSError(f"the snapshot cannot be unpacked: {done.stderr.decode(errors='replace')}")

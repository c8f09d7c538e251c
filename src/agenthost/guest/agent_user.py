"""The user of programs and file calls, where the guest itself has another one.

A guest that is root beside an agent of another uid keeps its socket, its streams and its keys out of the
agent's reach. What the guest does for the agent, it does with the agent's rights: the kernel refuses what the
agent may not do. The ids belong to the whole process, and so does this module's state.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Generator
from contextlib import contextmanager

_PR_CAPBSET_DROP = 24
_agent: list[int] = []  # the uid, which is also the gid, once ``separate`` was called


def separate(uid: int | None) -> None:
    """Have ``as_agent`` act as this user; None changes nothing.

    No program that is started from here on can have a capability.

    Raises:
        PermissionError: The guest is not root, so that its socket would be within the agent's reach.
    """
    if uid is None:
        return
    _empty_bounding_set()
    os.setgroups([])
    _agent[:] = [uid]
    with as_agent():
        pass  # a kernel or container that refuses it does so now, not in the middle of a call


def become(uid: int) -> None:
    """Give this process the agent's user for good, with nothing that root may do besides."""
    _empty_bounding_set()
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def agent_uid() -> int | None:
    """Return the agent's uid, None where guest and agent have the same."""
    return _agent[0] if _agent else None


def is_separate() -> bool:
    """Return whether the agent has a user of its own."""
    return bool(_agent)


@contextmanager
def as_agent() -> Generator[int | None]:
    """Have the agent's effective user and group inside the block, which must not await.

    Yields the agent's uid, None where guest and agent have the same.
    """
    if not _agent:
        yield None
        return
    uid = _agent[0]
    user, group = os.geteuid(), os.getegid()  # the agent's already, in a block within a block
    try:
        os.setegid(uid)
        os.seteuid(uid)
        yield uid
    finally:
        os.seteuid(user)
        os.setegid(group)


def _empty_bounding_set() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in range(64):
        if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            if ctypes.get_errno() == errno.EINVAL:
                return  # the kernel has no more
            raise OSError(ctypes.get_errno(), "the bounding set of capabilities could not be emptied")

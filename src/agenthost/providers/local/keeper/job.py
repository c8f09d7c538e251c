"""What the host hands the keeper: plain values, marshalled, on the keeper's stdin.

The keeper holds no policy. What is isolated, bound, limited and for how long is decided by the host and
written here; the keeper starts it, watches it, ends it and removes what is left.
"""

from __future__ import annotations

from typing import Literal, TypedDict


class Job(TypedDict):
    """One sandbox, ready to be started."""

    # The sandbox's own directory on the host. Everything in it is removed at the end.
    directory: str
    # The state file, a JSON object. The keeper adds its process id.
    state: str
    # Open files handed over: the directory's lock, the listening socket, where to report, and what else
    # must be held open as long as the sandbox lives.
    listen_fd: int
    report_fd: int
    held_fds: list[int]
    # Seconds.
    lifetime: float
    # Whether the sandbox ends before that when nobody renews its lease, a file in its directory.
    leased: bool
    grace: float
    # Signals that the host ignores or blocks; ignoring and blocking would be inherited.
    signals: list[int]
    # What to start, with which environment and where.
    argv: list[str]
    env: dict[str, str]
    cwd: str
    # Contents of files that the program finds at these numbers.
    data: dict[int, bytes]
    # Sources bound at NUMBER below ``stage_at``, in a mount namespace that only the program sees. Needed
    # when the program runs as a user who could not reach them.
    stage: list[str]
    stage_at: str
    # The user id to take on; None keeps the caller's.
    uid: int | None
    # Control groups to make: their directory and the values to write.
    cgroups: list[tuple[str, list[tuple[str, str]]]]
    # Limits of each process, soft and hard: their number and value.
    rlimits: list[tuple[int, int]]
    # Bytes and inodes that its files on disk may take; None is no bound. And after how many seconds they are
    # counted in any case.
    disk: tuple[int | None, int | None, float | None]
    # How gladly the kernel kills the sandbox when memory runs out, 0 to 1000. The keeper stays as it is.
    oom_score_adj: int
    # How the whole tree is found at the end: a process id namespace, or the keeper as subreaper.
    tree: Literal["namespace", "subreaper"]

"""Start the sandbox's first program: bubblewrap, or the guest itself where nothing isolates it."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agenthost.providers.local.keeper.job import Job

_CLONE_NEWNS = 0x20000
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_SIGKILL = 9
_F_SETPIPE_SZ, _PIPE_BYTES = 1031, 65536
# Exit code of a child that did not come as far as exec.
NOT_STARTED = 127


def launch(job: Job, *, listen_to: int, status: tuple[int, int], output: int) -> int:
    """Fork and exec. Returns the child's process id. Call it from the main thread only.

    The child dies with the thread that made it (bubblewrap's ``--die-with-parent``, and the same by hand
    where there is none).

    Args:
        job: What to start.
        listen_to: The number the listening socket gets in the child.
        status: The pipe for bubblewrap's status, and the number it gets.
        output: The pipe for stdout and stderr.
    """
    keeper = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        # Whoever holds the lock is taken for the keeper.
        for fd in job["held_fds"]:
            os.close(fd)
        os.chdir("/")
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        _give(job["listen_fd"], listen_to)
        _give(*status)
        for number, content in job["data"].items():
            _give(filled_pipe(content), number)
        if job["cgroups"]:
            from agenthost.providers.local.keeper import cgroups

            cgroups.enter([directory for directory, _ in job["cgroups"]])
        _set_limits(job)
        if job["stage"]:
            _stage(job["stage"], job["stage_at"])
        uid = job["uid"]
        if uid is not None:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        os.umask(0o022)
        os.chdir(job["cwd"])
        if job["tree"] == "subreaper":
            os.setsid()
            prctl(_PR_SET_PDEATHSIG, _SIGKILL)
        # bubblewrap dies with the parent that it finds; that must still be the keeper.
        if os.getppid() != keeper:
            os._exit(NOT_STARTED)
        os.execve(job["argv"][0], job["argv"], job["env"])
    except BaseException as error:  # noqa: BLE001 - nothing may return into the keeper's code from here
        os.write(2, f"agenthost keeper: {type(error).__name__}: {error}\n".encode(errors="replace"))
    os._exit(NOT_STARTED)


def _set_limits(job: Job) -> None:
    import resource

    for number, value in job["rlimits"]:
        # A limit that the host has already is not raised by one of ours.
        hard = resource.getrlimit(number)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (bound, bound))
    fd = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
    # It may be above already; to lower it needs a privilege.
    if int(os.read(fd, 16)) < job["oom_score_adj"]:
        os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, b"%d" % job["oom_score_adj"])
    os.close(fd)


def _give(fd: int, number: int) -> None:
    """Have the program find a file at a number. It has the number already where the host had it there."""
    if fd == number:
        os.set_inheritable(fd, True)
    else:
        os.dup2(fd, number)


def become_subreaper() -> None:
    """Have orphans below this process become its children, so that none can leave the tree."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def prctl(option: int, value: int) -> None:
    """Call prctl(2). Raises OSError."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}): {os.strerror(ctypes.get_errno())}")


def filled_pipe(content: bytes) -> int:
    """Return a pipe's end from which ``content`` is read, and then the end.

    Raises:
        OSError: It is above the kernel's bound, 1 MiB by default.
    """
    read, write = os.pipe()
    if len(content) > _PIPE_BYTES:
        import fcntl

        fcntl.fcntl(write, _F_SETPIPE_SZ, len(content))
    os.write(write, content)
    os.close(write)
    return read


def _stage(sources: list[str], stage_at: str) -> None:
    """Bind each source at ``stage_at/INDEX`` in a mount namespace of our own.

    They may lie in a directory that only root can enter; the program that reads them is about to become
    somebody else. (Handing it open directories does not help: bubblewrap resolves their paths, as itself.)
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)

    def check(result: int, what: str) -> None:
        if result != 0:
            raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")

    def mount(source: str, target: str, kind: str | None, flags: int, data: str | None) -> None:
        raw = [None if value is None else os.fsencode(value) for value in (source, target, kind, data)]
        check(libc.mount(raw[0], raw[1], raw[2], ctypes.c_ulong(flags), raw[3]), f"mount {target}")

    check(libc.unshare(_CLONE_NEWNS), "unshare the mount namespace")
    mount("none", "/", None, _MS_REC | _MS_PRIVATE, None)
    # Opened before the mount below can hide them.
    handles = [os.open(source, os.O_PATH | os.O_CLOEXEC) for source in sources]
    mount("agenthost", stage_at, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755,size=1m")
    for index, handle in enumerate(handles):
        target = f"{stage_at}/{index}"
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            os.mkdir(target, 0o755)
        else:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_EXCL | os.O_CLOEXEC, 0o644))
        mount(f"/proc/self/fd/{handle}", target, None, _MS_BIND | _MS_REC, None)
        os.close(handle)

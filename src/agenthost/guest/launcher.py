"""A process beside the guest that starts runners.

A program that is started by exec can be looked into until it has closed itself: its environment, its pipes
and its memory are those of an ordinary process of the agent's user, for as long as Python takes to start. A
runner is therefore never started so. The launcher is forked from the guest before any program of the sandbox
runs, and closes itself before the guest goes on; a runner is forked from the launcher: what PR_SET_DUMPABLE
closes stays closed across a fork. Keys come to the runner over a socket, not in its environment.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from agenthost.guest.agent_user import become
from agenthost.guest.hardening import close_to_neighbours
from agenthost.guest.oom import as_program, remember_own_score, score_files
from agenthost.guest.title import set_title

# A fork and a chdir take milliseconds. The guest does nothing else meanwhile, and a host gives up a link on
# which it has heard nothing for 23 seconds.
_ANSWER_SECONDS = 10.0
_ARCHIVE = "/runner.pyz"
_READY = b"ready"


class LauncherEndedError(Exception):
    """No agent can be started in this sandbox any more."""


@dataclass(frozen=True)
class Launched:
    """A runner, and this end of its three pipes."""

    pid: int
    stdin: int
    stdout: int
    stderr: int


def is_runner(argv: Sequence[str]) -> bool:
    """Return whether this is the command of agenthost's own runner, for this interpreter."""
    return _archive_at(argv) is not None


def _archive_at(argv: Sequence[str]) -> int | None:
    """Return where in a runner's command its archive is."""
    for place, word in enumerate(argv[1:], 1):
        if word.endswith(_ARCHIVE):
            return place
        if word not in ("-I", "-S"):
            return None
    return None


class Launcher:
    """The guest's end."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def launch(self, argv: Sequence[str], *, cwd: str, env: Mapping[str, str], uid: int | None) -> Launched:
        """Start a runner in a session of its own. It becomes a child of this process, which adopts orphans.

        Args:
            argv: Its command, see ``is_runner``.
            cwd: Where it starts.
            env: The whole of its environment.
            uid: The user and group that it gives itself; None is this process's own.

        Raises:
            OSError: It cannot be started.
            LauncherEndedError: A program of the agent's user has killed or stopped the launcher, for one.
        """
        stdin, stdout, stderr = os.pipe(), os.pipe(), os.pipe()
        own = [stdin[1], stdout[0], stderr[0]]
        its = [stdin[0], stdout[1], stderr[1]]
        here, there = socket.socketpair()
        try:
            with here, there:
                here.settimeout(_ANSWER_SECONDS)
                socket.send_fds(self._channel, [b"r"], [*its, there.fileno()])
                there.close()
                asked = {"argv": list(argv), "cwd": cwd, "env": dict(env), "uid": uid}
                here.sendall(json.dumps(asked).encode() + b"\n")
                answer: dict[str, Any] = json.loads(_read_line(here) or b"{}")
            if "errno" in answer:
                raise OSError(answer["errno"], answer["text"], answer["path"])
            if "pid" not in answer:
                raise LauncherEndedError("the process inside that starts agents was ended")
        except (ConnectionError, TimeoutError) as error:
            _close_all(own)
            what = "was ended" if isinstance(error, ConnectionError) else "does not answer"
            raise LauncherEndedError(f"the process inside that starts agents {what}") from None
        except BaseException:
            _close_all(own)
            raise
        finally:
            _close_all(its)
        return Launched(answer["pid"], *own)

    def close(self) -> None:
        """End the launcher. Runners live on."""
        self._channel.close()


def start_launcher() -> Launcher:
    """Fork the launcher, and return when it has closed itself. Call before any program of the sandbox runs.

    Raises:
        OSError: The kernel refuses to close it.
    """
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        try:
            here.close()
            set_title("agenthost launcher")
            remember_own_score()  # which cannot be opened once it is closed
            close_to_neighbours()
            there.send(_READY)
            _serve(there)
        finally:
            os._exit(70)
    there.close()
    if here.recv(len(_READY)) != _READY:
        raise OSError(errno.EPERM, "the launcher of runners could not be closed to its neighbours")
    return Launcher(here)


def _serve(channel: socket.socket) -> NoReturn:
    """Start runners until the guest has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's, for the whole group
    _close_others({0, 1, 2, channel.fileno(), *score_files()})
    while True:
        said, descriptors, _, _ = socket.recv_fds(channel, 1, 4)
        if not said:
            os._exit(0)
        with as_program():
            between = os.fork()
            if between == 0:
                # The runner loses its parent at once, and is adopted by the guest: see ``harden``.
                if os.fork() == 0:
                    _become_runner(descriptors)
                os._exit(0)
        os.waitpid(between, 0)
        _close_all(descriptors)


def _become_runner(descriptors: Sequence[int]) -> NoReturn:
    try:
        *standard, control = descriptors
        with socket.socket(fileno=control) as here:
            line = _read_line(here)
            if not line:
                os._exit(70)
            asked: dict[str, Any] = json.loads(line)
            try:
                _prepare(asked, standard)
            except OSError as error:
                told = {"errno": error.errno, "text": error.strerror, "path": error.filename}
                here.sendall(json.dumps(told).encode() + b"\n")
                os._exit(70)
            here.sendall(json.dumps({"pid": os.getpid()}).encode() + b"\n")
        _close_others({0, 1, 2})
        _run(asked["argv"])
    except SystemExit as ended:
        if isinstance(ended.code, str):
            sys.stderr.write(ended.code + "\n")
        os._exit(ended.code if isinstance(ended.code, int) else 1)
    except BaseException:  # noqa: BLE001 - as at the end of any program
        traceback.print_exc()
    os._exit(1)


def _prepare(asked: Mapping[str, Any], standard: Sequence[int]) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.umask(0o022)
    for target, source in enumerate(standard):
        os.dup2(source, target)
    if asked["uid"] is not None:
        become(asked["uid"])
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])


def _run(argv: list[str]) -> None:
    """Do what this interpreter would do with these arguments, if it were started anew."""
    place = _archive_at(argv)
    assert place is not None
    set_title(*argv)
    archive = argv[place]
    _set_path(archive, own_packages="-S" not in argv[:place])
    for name in [name for name in sys.modules if name.partition(".")[0] == "agenthost"]:
        del sys.modules[name]
    sys.modules["agenthost"] = package = type(sys)("agenthost")
    package.__path__ = [f"{archive}/agenthost"]
    sys.argv = argv[place:]
    # The package of the archive, not the one that this program is made of.
    importlib.import_module("agenthost.runner.__main__").main()


def _set_path(archive: str, *, own_packages: bool) -> None:
    """Have modules found as if this archive were the program; ``own_packages`` are the interpreter's."""
    if own_packages:
        if sys.flags.no_site:
            import site

            site.main()
        sys.path[0] = archive
        return
    library = os.path.dirname(os.__file__)
    kept = (library, f"{library}/lib-dynload")
    above = os.path.dirname(library)
    sys.path[:] = [
        archive,
        *(
            path
            for path in sys.path[1:]
            if path in kept or (path.endswith(".zip") and os.path.dirname(path) == above)
        ),
    ]


def _read_line(channel: socket.socket) -> bytes:
    """Return a line without its newline, ``b""`` where the other end has gone."""
    parts: list[bytes] = []
    while not (parts and parts[-1].endswith(b"\n")):
        data = channel.recv(1 << 16)
        if not data:
            return b""
        parts.append(data)
    return b"".join(parts)[:-1]


def _close_all(descriptors: Sequence[int]) -> None:
    for fd in descriptors:
        os.close(fd)


def _close_others(kept: set[int]) -> None:
    """Close every descriptor but these."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:
                continue  # the one that listed them

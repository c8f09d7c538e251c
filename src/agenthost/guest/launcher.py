"""A process beside the guest that starts runners.

A program that is started by exec can be looked into until it has closed itself: its environment, its pipes
and its memory are those of an ordinary process of the agent's user, for as long as Python takes to start. A
runner is therefore never started so. The launcher is forked from the guest before any program of the sandbox
runs, and closes itself before the guest goes on; a runner is forked from the launcher: what PR_SET_DUMPABLE
closes stays closed across a fork. Keys come to the runner over a socket, not in its environment.

The first runner leaves a template behind: a process that has imported what runners of this command need.
Later ones are forked from that. No template is given an agent's environment or pipes to look into: each fork
takes them from the guest itself.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

from agenthost.guest.forked_runner import (
    MESSAGE_BYTES,
    TEMPLATE_READY,
    archive_at,
    close_all,
    close_others,
    fork_runner,
    read_line,
)
from agenthost.guest.hardening import close_to_neighbours
from agenthost.guest.oom import as_program, remember_own_score, score_files
from agenthost.guest.title import set_title

# A fork and a chdir take milliseconds. The guest does nothing else meanwhile, and a host gives up a link on
# which it has heard nothing for 23 seconds.
_ANSWER_SECONDS = 10.0
# A template is a process of the agent's user, which may stop it: a runner is then started without.
_TEMPLATE_SECONDS = 2.0
_MOST_TEMPLATES = 4
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
    return archive_at(argv) is not None


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
        request = {"argv": list(argv), "cwd": cwd, "uid": uid}
        try:
            return self._launch({**request, "anew": False}, env, _TEMPLATE_SECONDS)
        except (TimeoutError, LauncherEndedError):
            pass  # a template that is stopped, ended or out of date; what starts late finds its socket closed
        try:
            return self._launch({**request, "anew": True}, env, _ANSWER_SECONDS)
        except TimeoutError:
            raise LauncherEndedError("the process inside that starts agents does not answer") from None

    def _launch(self, request: Mapping[str, Any], env: Mapping[str, str], seconds: float) -> Launched:
        stdin, stdout, stderr = os.pipe(), os.pipe(), os.pipe()
        own = [stdin[1], stdout[0], stderr[0]]
        its = [stdin[0], stdout[1], stderr[1]]
        here, there = socket.socketpair()
        try:
            with here, there:
                here.settimeout(seconds)
                self._channel.settimeout(seconds)
                socket.send_fds(self._channel, [json.dumps(request).encode()], [*its, there.fileno()])
                there.close()
                here.sendall(json.dumps(dict(env)).encode() + b"\n")
                answer: dict[str, Any] = json.loads(read_line(here) or b"{}")
            if "errno" in answer:
                raise OSError(answer["errno"], answer["text"], answer["path"])
            if "pid" not in answer:
                raise LauncherEndedError("the process inside that starts agents was ended")
        except ConnectionError:
            close_all(own)
            raise LauncherEndedError("the process inside that starts agents was ended") from None
        except BaseException:
            close_all(own)
            raise
        finally:
            close_all(its)
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
    close_others({0, 1, 2, channel.fileno(), *score_files()})
    templates = _Templates()
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, MESSAGE_BYTES, 4)
        if not message:
            os._exit(0)
        request: dict[str, Any] = json.loads(message)
        kind = tuple(request["argv"])
        if request["anew"]:
            templates.end(kind)
        if not templates.send(kind, message, descriptors):
            with templates.beginning(kind) as template, as_program():
                fork_runner(request, descriptors, template=template)
        close_all(descriptors)


class _Templates:
    """Processes that have imported what runners of one command need. Each ends when its channel is closed."""

    def __init__(self) -> None:
        self._channels: dict[tuple[str, ...], socket.socket] = {}  # the oldest first
        self._ready: set[tuple[str, ...]] = set()

    def send(self, kind: tuple[str, ...], message: bytes, descriptors: Sequence[int]) -> bool:
        """Have a template fork the runner; return whether there is one that has imported all and lives."""
        channel = self._channels.get(kind)
        if channel is None:
            return False
        try:
            if kind not in self._ready:
                if channel.recv(1) != TEMPLATE_READY:
                    raise ConnectionError
                self._ready.add(kind)
            socket.send_fds(channel, [message], descriptors)
        except BlockingIOError:
            return False  # it still imports, or the agent's programs have stopped it
        except OSError:
            self.end(kind)
            return False
        return True

    @contextmanager
    def beginning(self, kind: tuple[str, ...]) -> Generator[socket.socket | None]:
        """Give the other end of a new template's channel, None where one of the kind is there already."""
        if kind in self._channels:
            yield None
            return
        if len(self._channels) == _MOST_TEMPLATES:
            self.end(next(iter(self._channels)))
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._channels[kind] = ours
        with its:
            yield its

    def end(self, kind: tuple[str, ...]) -> None:
        """End a template, if there is one of the kind."""
        self._ready.discard(kind)
        channel = self._channels.pop(kind, None)
        if channel is not None:
            channel.close()

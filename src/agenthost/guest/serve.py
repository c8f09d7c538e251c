"""The guest's start: listens, lets the first agent begin, and only then loads what serves the host."""

from __future__ import annotations

import contextlib
import os
import socket

from agenthost.guest.agent_user import separate
from agenthost.guest.config import read_config
from agenthost.guest.first_agent import start_first_agent
from agenthost.guest.hardening import harden
from agenthost.guest.launcher import start_launcher
from agenthost.guest.oom import remember_own_score


def serve(boot_path: str, *, listen_fd: int | None, socket_path: str | None, detach: bool) -> int:
    """Run until told to end; with ``detach`` return as soon as another process listens."""
    config = read_config(boot_path)
    with contextlib.suppress(OSError):  # it may lie where the guest cannot write
        # Before any program of the sandbox runs: who reads the key in it can play the guest to its hosts.
        os.unlink(boot_path)
    listener = _listen(listen_fd, socket_path)
    port = None if config.http is None else _listen_tcp(config.http["address"], config.http["port"])
    os.umask(0o022)
    if detach and _leave_to_child(listener):
        return 0
    remember_own_score()
    launcher = start_launcher()
    harden()  # here, because adopting orphans is nothing that a child inherits
    os.makedirs(config.spool_dir, mode=0o700, exist_ok=True)
    separate(config.agent_uid)
    first = start_first_agent(config, launcher)
    # It imports the SDK, which takes long, while this process imports the rest of itself.
    from agenthost.guest.guest import run_guest

    run_guest(config, listener, first, port, launcher)
    return 0


def _listen(fd: int | None, path: str | None) -> socket.socket:
    if fd is not None:
        listener = socket.socket(fileno=fd)
        listener.set_inheritable(False)
    elif path is not None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        os.umask(0o177)
        listener.bind(path)
        listener.listen(64)
    else:
        raise SystemExit("serve wants --listen-fd or --socket")
    return listener


def _listen_tcp(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # "::" takes IPv4, too
    listener.bind((address, port))
    listener.listen(64)
    return listener


def _leave_to_child(listener: socket.socket) -> bool:
    """Fork twice into a session of its own; True in the process that was called."""
    if os.fork() != 0:
        os.wait()
        return True
    os.setsid()
    if os.fork() != 0:
        os._exit(0)
    log = os.open(listener.getsockname() + ".log", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDWR)
    for target, source in ((0, null), (1, log), (2, log)):
        os.dup2(source, target)
    # For a main program that ends its machine when the guest has gone.
    note = listener.getsockname() + ".pid"
    with open(note + ".new", "w", encoding="ascii") as file:
        file.write(f"{os.getpid()}\n")
    os.replace(note + ".new", note)  # whole, for whoever looks
    return False

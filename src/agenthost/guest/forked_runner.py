"""How a fork becomes a runner, and leaves a template for later ones behind."""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from agenthost.guest.agent_user import become
from agenthost.guest.hardening import close_to_neighbours
from agenthost.guest.title import set_title

MESSAGE_BYTES = 1 << 16  # the most that one request to start a runner takes
TEMPLATE_READY = b"t"
_ARCHIVE = "/runner.pyz"
Stamp = tuple[tuple[str, int, int], ...]


def archive_at(argv: Sequence[str]) -> int | None:
    """Return where in a runner's command its archive is, None where this is another command."""
    for place, word in enumerate(argv[1:], 1):
        if word.endswith(_ARCHIVE):
            return place
        if word not in ("-I", "-S"):
            return None
    return None


def fork_runner(
    request: Mapping[str, Any],
    descriptors: Sequence[int],
    *,
    template: socket.socket | None = None,
    imported: Stamp | None = None,
) -> None:
    """Fork a runner, and return at once. The guest adopts it, since it loses its parent: see ``harden``.

    Args:
        request: ``argv``, ``cwd`` and ``uid``; nothing of it is secret.
        descriptors: Its three pipes, and the socket that takes the answer and gives the environment.
        template: Where a template is to serve, which the runner leaves behind when it has imported all.
        imported: What this process, a template, has imported; such a runner answers ``{}`` instead of its pid
            when other packages are there by now.
    """
    between = os.fork()
    if between == 0:
        if os.fork() == 0:
            _become_runner(request, descriptors, template, imported)
        os._exit(0)
    os.waitpid(between, 0)


def _become_runner(
    request: Mapping[str, Any],
    descriptors: Sequence[int],
    template: socket.socket | None,
    imported: Stamp | None,
) -> NoReturn:
    try:
        *standard, control = descriptors
        argv: list[str] = request["argv"]
        with socket.socket(fileno=control) as here:
            try:
                _enter(request, standard, uid=None if imported else request["uid"])
            except OSError as error:
                told = {"errno": error.errno, "text": error.strerror, "path": error.filename}
                here.sendall(json.dumps(told).encode() + b"\n")
                os._exit(70)
            if imported is not None and imported != _stamp():
                here.sendall(b"{}\n")
                os._exit(70)
            here.sendall(json.dumps({"pid": os.getpid()}).encode() + b"\n")
            if imported is None and _import_runner(argv) and template is not None:
                _leave_template(template)
            line = read_line(here)
        if not line:
            os._exit(70)
        os.environ.clear()
        os.environ.update(json.loads(line))
        for target, source in enumerate(standard):
            os.dup2(source, target)
        close_others({0, 1, 2})
        sys.argv = argv[archive_at(argv) :]
        importlib.import_module("agenthost.runner.__main__").main()
    except SystemExit as ended:
        if isinstance(ended.code, str):
            sys.stderr.write(ended.code + "\n")
        os._exit(ended.code if isinstance(ended.code, int) else 1)
    except BaseException:  # noqa: BLE001 - as at the end of any program
        traceback.print_exc()
    os._exit(1)


def _enter(request: Mapping[str, Any], standard: Sequence[int], *, uid: int | None) -> None:
    """Take the runner's place among processes, users and directories."""
    os.setsid()
    set_title(*request["argv"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.umask(0o022)
    # What an import prints goes to the runner's stderr: its stdout is for the journal alone.
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(standard[2], 1)
    os.dup2(standard[2], 2)
    if uid is not None:
        become(uid)
        close_to_neighbours()  # a change of the user may have opened it
    os.chdir(request["cwd"])


def _import_runner(argv: list[str]) -> bool:
    """Do what this interpreter would do with these arguments, if it were started anew, up to the first call.

    Returns whether all that a runner needs is imported.
    """
    place = archive_at(argv)
    assert place is not None
    archive = argv[place]
    _set_path(archive, own_packages="-S" not in argv[:place])
    # The package of the archive, not the one that this program is made of.
    for name in [name for name in sys.modules if name.partition(".")[0] == "agenthost"]:
        del sys.modules[name]
    sys.modules["agenthost"] = package = type(sys)("agenthost")
    package.__path__ = [f"{archive}/agenthost"]
    loaded: bool = importlib.import_module("agenthost.runner.__main__").load_ahead(argv[place + 1 :])
    sys.stdout.flush()  # or each fork has what was printed
    sys.stderr.flush()
    return loaded


def _leave_template(channel: socket.socket) -> None:
    """Fork a template, which serves until its channel is closed. It is never this process's child."""
    if len(os.listdir("/proc/self/task")) > 1:
        return  # a package has started a thread when it was imported, and a fork would lack it
    between = os.fork()
    if between == 0:
        try:
            _become_template(channel)
            if os.fork() == 0:
                _serve_as_template(channel)
        finally:
            os._exit(0)
    os.waitpid(between, 0)  # the template is ready then


def _become_template(channel: socket.socket) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.chdir("/")
    for fd in (1, 2):
        os.dup2(0, fd)  # nothing of the runner's stays open here
    close_others({0, 1, 2, channel.fileno()})
    set_title("agenthost template")
    channel.send(TEMPLATE_READY)


def _serve_as_template(channel: socket.socket) -> NoReturn:
    imported = _stamp()
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, MESSAGE_BYTES, 4)
        if not message:
            os._exit(0)
        fork_runner(json.loads(message), descriptors, imported=imported)
        close_all(descriptors)


def _stamp() -> Stamp:
    """Return what changes when a package is installed where this interpreter finds its packages."""
    found: list[tuple[str, int, int]] = []
    for path in sys.path:
        try:
            status = os.stat(path)
        except OSError:
            continue
        found.append((path, status.st_ino, status.st_mtime_ns))
    return tuple(found)


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


def read_line(channel: socket.socket) -> bytes:
    """Return a line without its newline, ``b""`` where the other end has gone."""
    parts: list[bytes] = []
    while not (parts and parts[-1].endswith(b"\n")):
        data = channel.recv(1 << 16)
        if not data:
            return b""
        parts.append(data)
    return b"".join(parts)[:-1]


def close_all(descriptors: Sequence[int]) -> None:
    """Close these."""
    for fd in descriptors:
        os.close(fd)


def close_others(kept: set[int]) -> None:
    """Close every descriptor but these."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:
                continue  # the one that listed them

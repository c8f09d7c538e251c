"""The server behind ``preloaded``: imports what the command needs, and forks for each program.

    python fork_server.py FD

FD is a listening unix socket. A client sends a JSON object (argv, env, cwd) with three files (stdin, stdout,
stderr), and gets the program's pid and later its exit code. The server ends when its stdin does.
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import socket
import sys
import traceback
import types
from pathlib import Path
from typing import Any, NoReturn

_LARGEST = 1 << 20  # bytes of one request
_PRELOADED = (
    *("agenthost.cli.app", "agenthost.cli.attach", "agenthost.cli.logs", "agenthost.cli.ps"),
    *("agenthost.cli.run", "agenthost.cli.stop", "agenthost.cli.reap", "agenthost.cli.providers"),
    *("agenthost.cli.config_check", "agenthost.cli.doctor", "agenthost.cli.emulate", "agenthost.cli.bake"),
    *("agenthost.agent.life", "agenthost.agent.configured", "agenthost.providers.local.provider"),
    *("agenthost.providers.local.local_unisolated", "agenthost.adapter.on_sandbox", "agenthost.testing"),
    *("agenthost.files.transfer", "agenthost.link.client", "agenthost.agent.model_proxy", "httpx"),
    *("claude_agent_sdk", "rich.console", "rich.table", "rich.progress", "anyio._backends._asyncio"),
)


def serve(listener: socket.socket) -> None:
    """Fork for each connection, and tell it the pid and the exit code, until stdin ends."""
    for name in _PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # and so it stays: a program that unfroze all this would spend 0.2 s at its end on it
    waiting = selectors.DefaultSelector()
    waiting.register(listener, selectors.EVENT_READ, None)
    waiting.register(0, selectors.EVENT_READ, None)
    while True:
        for key, _ in waiting.select():
            if key.fileobj == 0:
                return
            if key.fileobj is listener:
                client = listener.accept()[0]
                pid = _start(client, waiting)
                waiting.register(os.pidfd_open(pid), selectors.EVENT_READ, (client, pid))
            else:
                client, pid = key.data
                waiting.unregister(key.fd)
                os.close(key.fd)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with contextlib.suppress(OSError), client:
                    client.send(str(code).encode())


def _start(client: socket.socket, waiting: selectors.BaseSelector) -> int:
    fds = array.array("i")
    data, ancillary, _, _ = client.recvmsg(_LARGEST, socket.CMSG_SPACE(3 * fds.itemsize))
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(content)
    pid = os.fork()
    if pid == 0:
        for key in waiting.get_map().values():
            for inner in (key.fileobj, key.data and key.data[0]):
                if isinstance(inner, socket.socket):
                    inner.close()
                elif isinstance(inner, int) and inner != 0:
                    os.close(inner)
        waiting.close()
        client.close()
        _become(json.loads(data), list(fds))
    for fd in fds:
        os.close(fd)
    client.send(str(pid).encode())
    return pid


def _become(request: dict[str, Any], fds: list[int]) -> NoReturn:
    """Be the program that was asked for."""
    for target, fd in enumerate(fds):
        os.dup2(fd, target)
        os.close(fd)
    # What the streams of the server know of their files, a position for one, is not true of these files.
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - to the program's end
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115 - likewise
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    # The one variable of the interpreter's own that the tests set.
    sys.path[1:1] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    name, *arguments = request["argv"]
    code = 1
    try:
        if name == "agenthost":
            from agenthost.cli import main

            sys.argv = [name, *arguments]
            main()
        elif arguments[0] == "-c":
            sys.argv = ["-c", *arguments[2:]]
            sys.path[0] = ""
            module = sys.modules["__main__"] = types.ModuleType("__main__")
            exec(compile(arguments[1], "<string>", "exec"), vars(module))
        else:
            sys.argv = arguments
            sys.path[0] = str(Path(arguments[0]).parent)
            runpy.run_path(arguments[0], run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
    # What the interpreter does at its end: threads, exit handlers, buffers.
    sys.exit(code)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))

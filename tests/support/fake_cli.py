#!/usr/bin/env python3
"""A ``claude`` that misbehaves as told: stream-json on stdin and stdout, without a model.

The first argument after the options is not read; what to do is the environment's FAKE_CLI, a name of a
function below, and FAKE_CLI_FILE is a path for what a test wants to know.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

RECORD = os.environ.get("FAKE_CLI_FILE", "")
ACTS: dict[str, Callable[[], None]] = {}


def act(function: Callable[[], None]) -> Callable[[], None]:
    ACTS[function.__name__] = function
    return function


def write(value: Any) -> None:
    data = value if isinstance(value, bytes) else json.dumps(value).encode() + b"\n"
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def note(text: str) -> None:
    """Tell the test, if it asked: whole or not at all."""
    if not RECORD:
        return
    with open(RECORD + ".new", "w") as file:
        file.write(text)
    os.replace(RECORD + ".new", RECORD)


def complain(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def read() -> dict[str, Any] | None:
    line = sys.stdin.buffer.readline()
    return json.loads(line) if line else None


def prompt() -> dict[str, Any]:
    """Answer control requests until a prompt comes; exit 0 at the end of stdin."""
    while (message := read()) is not None:
        if message["type"] == "control_request":
            request = {"subtype": "success", "request_id": message["request_id"], "response": {"fake": True}}
            write({"type": "control_response", "response": request})
        elif message["type"] == "user":
            return message
    sys.exit(0)


def assistant(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "model": "fake", "content": [{"type": "text", "text": text}]}
    return {"type": "assistant", "message": message, "session_id": "s"}


def result(*asked: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "result",
        "subtype": "success",
        "duration_ms": 1,
        "duration_api_ms": 1,
        "is_error": False,
        "num_turns": 1,
        "session_id": "s",
        "result": "done",
        "user_message_uuids": [message["uuid"] for message in asked if "uuid" in message],
    }


@act
def echo() -> None:
    while True:
        asked = prompt()
        write(assistant(str(asked["message"]["content"])))
        write(result(asked))


@act
def die_mid_turn() -> None:
    prompt()
    write(assistant("so far"))
    complain("warming up")
    complain("out of cheese: ünïcode \U0001f9c0")
    os._exit(137)


@act
def killed_mid_turn() -> None:
    prompt()
    write(assistant("so far"))
    os.kill(os.getpid(), signal.SIGKILL)


@act
def die_at_start() -> None:
    complain("cannot start: no licence")
    sys.exit(3)


@act
def refuse_resume() -> None:
    """Answer initialize with an error result and exit, as for a session that is not there."""
    read()
    failed = {**result(), "subtype": "error_during_execution", "is_error": True, "result": None}
    write({**failed, "errors": ["No conversation found with session ID: x"]})
    sys.exit(1)


@act
def truncate() -> None:
    prompt()
    write(b'{"type":"assistant","message":{"role"')
    sys.exit(0)


@act
def no_result() -> None:
    prompt()
    write(assistant("and then nothing"))
    sys.exit(0)


@act
def leave_when_idle() -> None:
    asked = prompt()
    write(assistant("bye"))
    write(result(asked))
    sys.exit(0)


@act
def bad_utf8() -> None:
    asked = prompt()
    write(assistant("before"))
    write(json.dumps(assistant("X")).encode().replace(b"X", b"caf\xe9") + b"\n")
    write(result(asked))
    prompt()


@act
def garbage_lines() -> None:
    asked = prompt()
    write(b"\x00\x01 not json\n[SandboxDebug] hello\n\n")
    write(assistant("after"))
    write(result(asked))
    prompt()


@act
def long_line() -> None:
    asked = prompt()
    write(assistant("y" * 20_000_000))
    write(result(asked))
    prompt()


@act
def broken_message() -> None:
    asked = prompt()
    write({"type": "assistant", "message": {"role": "assistant"}})
    write(assistant("after"))
    write(result(asked))
    prompt()


@act
def deep_message() -> None:
    asked = prompt()
    deep: Any = {}
    for _ in range(700):
        deep = {"a": deep}
    write({"type": "system", "subtype": "deep", "data": deep})
    write(result(asked))
    prompt()


@act
def flood() -> None:
    """20,000 events of 2 KB. Tells when nobody has read for a second how many had gone out by then."""
    asked = prompt()
    told = False
    for number in range(20_000):
        if not select.select([], [sys.stdout], [], 0 if told else 1.0)[1] and not told:
            note(str(number))
            told = True
        event = {"type": "x", "number": number, "pad": "p" * 2000}
        write({"type": "stream_event", "uuid": "u", "session_id": "s", "event": event})
    write(result(asked))
    prompt()


@act
def flood_200_mb() -> None:
    """4,000 events of 50 KB. Tells when all of them have gone out."""
    asked = prompt()
    for number in range(4_000):
        event = {"type": "x", "number": number, "pad": "p" * 50_000}
        write({"type": "stream_event", "uuid": "u", "session_id": "s", "event": event})
    note("written")
    write(result(asked))
    prompt()


@act
def flood_stderr() -> None:
    asked = prompt()
    for number in range(50_000):
        sys.stderr.write(f"line {number} " + "e" * 200 + "\n")
    sys.stderr.flush()
    note("written")
    write(result(asked))
    prompt()


@act
def orphan_holds_stdout() -> None:
    """Leave a child that holds stdout and stderr, in a session of its own, and die."""
    prompt()
    child = subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL, start_new_session=True)
    note(str(child.pid))
    complain("last words")
    os.kill(os.getpid(), signal.SIGKILL)


@act
def stubborn() -> None:
    """Neither the end of stdin nor SIGTERM ends it, and it has a child that is as stubborn."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True, stdout=subprocess.DEVNULL)
    note(f"{os.getpid()} {child.pid}")
    asked = prompt()
    write(result(asked))
    while True:
        signal.pause()


@act
def deaf() -> None:
    """Read nothing and say nothing."""
    note(str(os.getpid()))
    while True:
        signal.pause()


@act
def report() -> None:
    """Tell its arguments, environment and the files that the arguments name."""
    asked = prompt()
    files: dict[str, Any] = {}
    for argument in sys.argv[1:]:
        if argument.startswith("/") and os.path.isfile(argument):
            with open(argument, encoding="utf-8") as file:
                modes = [oct(os.stat(p).st_mode & 0o777) for p in (argument, os.path.dirname(argument))]
                files[argument] = {"text": file.read(), "modes": modes}
    with open("/proc/self/cmdline", "rb") as file:
        cmdline = file.read().decode("utf-8", "replace")
    note(json.dumps({"argv": sys.argv, "cmdline": cmdline, "env": dict(os.environ), "files": files}))
    write(result(asked))
    prompt()


@act
def old_results() -> None:
    """Results that name no prompts, as older versions write them."""
    while True:
        asked = prompt()
        plain = result(asked)
        del plain["user_message_uuids"]
        write(plain)


if __name__ == "__main__":
    ACTS[os.environ["FAKE_CLI"]]()

"""Start a keeper and hear from it."""

from __future__ import annotations

import json
import marshal
import os
import subprocess
from dataclasses import dataclass
from typing import cast

import anyio

from agenthost.errors import SandboxStartError
from agenthost.providers.local.entry import Entry
from agenthost.providers.local.interpreter import host_interpreter
from agenthost.providers.local.keeper.job import Job
from agenthost.providers.local.keeper.launch import filled_pipe

_START_SECONDS = 30.0
_TAIL_BYTES = 4096

# The packages above the keeper are made by hand, empty: importing them might load half the library.
PREPARE = """
import sys
path, name = sys.argv[1], "agenthost"
for part in ("", "providers", "local"):
    path, name = (path + "/" + part, name + "." + part) if part else (path, name)
    module = type(sys)(name)
    module.__path__ = [path]
    sys.modules[name] = module
"""
_PROGRAM = f"{PREPARE}from agenthost.providers.local.keeper.main import main\nmain()\n"
PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@dataclass(frozen=True, slots=True, kw_only=True)
class LastWords:
    """What a keeper says at the end.

    Attributes:
        set_up: False when the isolation could not be completed, so that the program inside never started.
        exit_code: Its exit code, 128 + N for signal N; None when it would not end.
        why: ``guest``, ``lifetime``, ``lease``, ``keep``, ``disk`` or ``terminated``.
        oom_kills: Processes that the kernel killed because the sandbox's memory was used up.
        log: The last 4 KiB that the program inside printed.
    """

    set_up: bool
    exit_code: int | None
    why: str
    oom_kills: int
    log: str


class Report:
    """The pipe on which a keeper tells that it is up, and at the end how it ended."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._text = b""
        self._ended = False
        os.set_blocking(fd, False)

    async def wait_up(self) -> bool:
        """Wait until the sandbox's first program is started. False: the keeper died before."""
        while b"\n" not in self._text and not self._ended:
            await self._more()
        return self._text.startswith(b"up\n")

    async def last_words(self) -> LastWords | None:
        """Wait until the keeper has ended. None: it was killed."""
        while not self._ended:
            await self._more()
        line = self._text.partition(b"\n")[2].strip()
        if not line:
            return None
        value = cast("dict[str, object]", json.loads(line))
        code = value["exit"]
        return LastWords(
            set_up=value["set_up"] is True,
            exit_code=code if isinstance(code, int) else None,
            why=str(value["why"]),
            oom_kills=int(str(value["oom_kills"])),
            log=printable(str(value["log"])),
        )

    def close(self) -> None:
        """Stop listening. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
        self._ended = True

    async def _more(self) -> None:
        await anyio.wait_readable(self._fd)
        data = os.read(self._fd, 1 << 16)
        self._text += data
        self._ended = not data


async def start_keeper(entry: Entry, job: Job) -> Report:
    """Start the keeper of an entry. It then holds the entry; ours is closed.

    Not to be cancelled half-way: it takes some milliseconds and is bounded.

    Raises:
        SandboxStartError: It did not come up; the message holds what it printed.
    """
    read, write = os.pipe()
    report = Report(read)
    try:
        job["report_fd"] = write
        job["listen_fd"] = entry.listen_fd
        job["held_fds"] = [entry.lock_fd, *entry.other_fds]
        with anyio.CancelScope(shield=True), anyio.move_on_after(_START_SECONDS):
            try:
                await _spawn(job)
            finally:
                os.close(write)
                entry.close()
            if await report.wait_up():
                return report
        raise SandboxStartError(f"the keeper of {entry.directory} did not start: {log_tail(entry.directory)}")
    except BaseException:
        report.close()
        raise


def log_tail(directory: str) -> str:
    """Return the end of a sandbox's log."""
    try:
        with open(directory + "/log", "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
            return printable(text).strip() or "it printed nothing"
    except FileNotFoundError:
        return "it printed nothing"


def printable(text: str) -> str:
    """Return text that does nothing to a terminal: what was printed inside ends in errors outside."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text
    )


async def _spawn(job: Job) -> None:
    """Start the program and wait until it has detached."""
    # The same interpreter reads it, so marshal is safe between the two, and loads nothing.
    stdin = filled_pipe(marshal.dumps(dict(job)))
    try:
        process = await anyio.open_process(
            [host_interpreter(), "-I", "-S", "-c", _PROGRAM, PACKAGE],
            stdin=stdin,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
            start_new_session=True,
            pass_fds=(job["listen_fd"], job["report_fd"], *job["held_fds"]),
        )
    finally:
        os.close(stdin)
    async with process:
        await process.wait()

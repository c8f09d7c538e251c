"""Streams, signals and the exit of the runner."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import site
import sys
from typing import NoReturn

from agenthost.runner.agent import Agent
from agenthost.runner.child_sockets import use_sockets
from agenthost.runner.journal import Journal
from agenthost.runner.loop import new_loop
from agenthost.runner.process import harden, strip_environment

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run(arguments: list[str]) -> NoReturn:
    """Run one agent to its end and exit: 0 when ``end`` was written, 70 when it could not be."""
    harden()
    strip_environment()
    use_sockets()
    for directory in _site_directories(arguments):
        site.addsitedir(directory)
    # The journal is stdout's alone: what anything prints goes to stderr, what anything reads is empty.
    journal_fd = os.dup(1)
    input_fd = os.dup(0)
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # Not asyncio.run: it would wait for the thread that imports the SDK, which nobody needs any more.
    written = new_loop().run_until_complete(_serve(input_fd, journal_fd))
    sys.stderr.flush()
    os._exit(0 if written else 70)


def _site_directories(arguments: list[str]) -> list[str]:
    found: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument != "--site":
            raise SystemExit(f"unknown argument {argument!r}; usage: runner [--site DIRECTORY]...")
        directory = next(rest, None)
        if directory is None:
            raise SystemExit("--site needs a directory")
        found.append(directory)
    return found


async def _serve(input_fd: int, journal_fd: int) -> bool:
    loop = asyncio.get_running_loop()
    _, journal = await loop.connect_write_pipe(Journal, os.fdopen(journal_fd, "wb", buffering=0))
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(input_fd, "rb", buffering=0)
    )
    agent = Agent(journal)
    for signum in _SIGNALS:
        loop.add_signal_handler(signum, agent.stop)
    fault = await agent.run(reader)
    for signum in _SIGNALS:  # from here a second signal ends a runner whose journal nobody reads
        loop.remove_signal_handler(signum)
    await journal.finish(error=fault)
    return journal.closed.result() is None

"""Streams, signals and the exit of the runner."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import site
import sys
from typing import NoReturn

from agenthost.runner import sdk
from agenthost.runner.agent import Agent
from agenthost.runner.child_sockets import use_sockets
from agenthost.runner.faults import Refusal
from agenthost.runner.journal import Journal
from agenthost.runner.loop import new_loop
from agenthost.runner.process import harden, strip_environment

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run(arguments: list[str]) -> NoReturn:
    """Run one agent to its end and exit: 0 when ``end`` was written, 70 when it could not be."""
    harden()
    strip_environment()
    use_sockets()
    mcp = _add_sites(arguments)
    # The journal is stdout's alone: what anything prints goes to stderr, what anything reads is empty.
    journal_fd = os.dup(1)
    input_fd = os.dup(0)
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # Not asyncio.run: it would wait for the thread that imports the SDK, which nobody needs any more.
    written = new_loop().run_until_complete(_serve(input_fd, journal_fd, mcp=mcp))
    sys.stderr.flush()
    os._exit(0 if written else 70)


def load_sdk(arguments: list[str]) -> bool:
    """Import the SDK as ``run`` does with these arguments, and return whether there is one."""
    try:
        sdk.load_ahead(mcp=_add_sites(arguments))
    except Refusal:
        return False
    return True


def _add_sites(arguments: list[str]) -> bool:
    """Have packages found in each directory that is named; return whether mcp will be needed."""
    mcp = False
    rest = iter(arguments)
    for argument in rest:
        if argument == "--mcp":
            mcp = True
            continue
        if argument != "--site":
            raise SystemExit(f"unknown argument {argument!r}; usage: runner [--mcp] [--site DIRECTORY]...")
        directory = next(rest, None)
        if directory is None:
            raise SystemExit("--site needs a directory")
        if directory not in sys.path:
            site.addsitedir(directory)
    return mcp


async def _serve(input_fd: int, journal_fd: int, *, mcp: bool) -> bool:
    loop = asyncio.get_running_loop()
    _, journal = await loop.connect_write_pipe(Journal, os.fdopen(journal_fd, "wb", buffering=0))
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(input_fd, "rb", buffering=0)
    )
    agent = Agent(journal, mcp=mcp)
    for signum in _SIGNALS:
        loop.add_signal_handler(signum, agent.stop)
    fault = await agent.run(reader)
    for signum in _SIGNALS:  # from here a second signal ends a runner whose journal nobody reads
        loop.remove_signal_handler(signum)
    await journal.finish(error=fault)
    return journal.closed.result() is None

"""The examples: programs of their own, in an interpreter that has imported agenthost already."""

from __future__ import annotations

import signal
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
from support.command_line import environment
from support.preloaded import Program, run_preloaded, run_to_end

EXAMPLES = Path(__file__).parents[2] / "examples"
KEY = "sk-ant-of-the-examples"

_STOP_SECONDS = 20.0


async def run_example(name: str, *arguments: str, env: Mapping[str, str] | None = None) -> str:
    """Run one to its end and return what it printed."""
    done = await run_to_end(["python", str(EXAMPLES / name), *arguments], env=environment(env))
    assert done.exit_code == 0, (done.exit_code, done.stderr)
    return done.stdout


@dataclass(slots=True)
class Example:
    """An example that runs. What it writes to stderr is the test's."""

    process: Program

    async def line(self) -> str:
        """Return the next line that it prints, without its end."""
        return await self.process.line()

    async def lines_to_end(self) -> list[str]:
        """Return what it prints until it ends by itself, without an error."""
        found: list[str] = []
        try:
            while True:
                found.append(await self.line())
        except anyio.IncompleteRead:
            assert await self.process.wait() == 0
            return found

    async def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        """End it as a service manager does; returns its exit code, below 0 for a signal."""
        self.process.send_signal(signal.SIGTERM)
        return await self.process.wait()


@asynccontextmanager
async def start_example(
    name: str, *arguments: str, env: Mapping[str, str] | None = None
) -> AsyncGenerator[Example]:
    """Start one. One that still runs when the block is left, because a test has failed, is ended."""
    argv = ["python", str(EXAMPLES / name), *arguments]
    async with run_preloaded(argv, env=environment(env), stderr=None) as process:
        try:
            yield Example(process)
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                with anyio.move_on_after(_STOP_SECONDS, shield=True):
                    await process.wait()
                if process.returncode is None:
                    process.kill()

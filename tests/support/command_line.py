"""The ``agenthost`` command: a process of its own, which has imported what the command needs already."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import anyio
from support.preloaded import Done, Program, run_preloaded, run_to_end

__all__ = ["COMMAND", "Done", "agenthost", "environment", "run_agenthost", "run_command"]

COMMAND = str(Path(sys.executable).with_name("agenthost"))


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without the credentials that a developer may have, with changes."""
    theirs = ("ANTHROPIC_", "CLOUDFLARE_", "E2B_", "FLY_", "MODAL_", "VERCEL_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    return {**kept, **(changes or {})}


def agenthost(
    *arguments: str, env: Mapping[str, str] | None = None, stdin: bytes = b"", cwd: Path | None = None
) -> Done:
    """Run the command to its end, preloaded, in a test that has no event loop."""
    return anyio.run(partial(run_agenthost, *arguments, env=env, stdin=stdin, cwd=cwd))


async def run_agenthost(
    *arguments: str, env: Mapping[str, str] | None = None, stdin: bytes = b"", cwd: Path | None = None
) -> Done:
    """Run the command to its end, preloaded, while a model or a server of the test answers it."""
    return await run_to_end(["agenthost", *arguments], env=environment(env), cwd=cwd, stdin=stdin)


def run_command(
    *arguments: str, env: Mapping[str, str], cwd: Path | None = None, stdin: int = subprocess.PIPE
) -> AbstractAsyncContextManager[Program]:
    """Start the command, preloaded: see ``run_preloaded``."""
    return run_preloaded(["agenthost", *arguments], env=env, cwd=cwd, stdin=stdin)

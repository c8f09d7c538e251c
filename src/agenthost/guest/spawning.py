"""The start of a program, with what tells later what came of it."""

from __future__ import annotations

import os
import subprocess

from agenthost.guest.agent_user import as_agent
from agenthost.guest.oom import as_program

# What was started by the guest has it in its environment: so an orphan is found whose parents are all gone.
_MARK = "AGENTHOST_PROCESS"


class Spawned:
    """A program with three pipes, and the mark in its environment that its children inherit."""

    def __init__(self, argv: list[str], *, cwd: str, env: dict[str, str], user: str | None) -> None:
        """Start the program in a session of its own, as ``user``, else as the agent.

        Raises:
            OSError: The program cannot be started.
        """
        token = os.urandom(12).hex()
        self.mark = f"{_MARK}={token}".encode()
        with as_program(), as_agent() as uid:
            self.popen = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                cwd=cwd,
                env={**env, _MARK: token},
                start_new_session=True,
                user=user if uid is None else uid,
                group=uid,
            )


def model_env(port: int, key: str) -> dict[str, str]:
    """Return what leads an agent's model traffic to the guest."""
    return {"ANTHROPIC_BASE_URL": f"http://127.0.0.1:{port}", "ANTHROPIC_API_KEY": key}

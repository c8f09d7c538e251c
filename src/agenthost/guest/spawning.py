"""The start of a program, with what tells later what came of it."""

from __future__ import annotations

import os
import subprocess
from typing import IO

from agenthost.guest.agent_user import agent_uid, as_agent
from agenthost.guest.launcher import Launcher, is_runner
from agenthost.guest.oom import as_program

# What was started by the guest has it in its environment: so an orphan is found whose parents are all gone.
_MARK = "AGENTHOST_PROCESS"


class Spawned:
    """A program with three pipes, and the mark in its environment that its children inherit.

    Attributes:
        pid: The program's.
        stdin, stdout, stderr: This end of its pipes. Whoever takes them closes them.
    """

    def __init__(
        self,
        argv: list[str],
        *,
        cwd: str,
        env: dict[str, str],
        user: str | None,
        launcher: Launcher | None = None,
    ) -> None:
        """Start the program in a session of its own, as ``user``, else as the agent.

        Args:
            argv: Its command. A runner is forked from the launcher, see there.
            cwd: Where it starts.
            env: Its environment.
            user: See above.
            launcher: None starts whatever it is by exec.

        Raises:
            OSError: The program cannot be started.
        """
        token = os.urandom(12).hex()
        self.mark = f"{_MARK}={token}".encode()
        env = {**env, _MARK: token}
        self._popen: subprocess.Popen[bytes] | None = None
        if launcher is not None and user is None and is_runner(argv):
            launched = launcher.launch(argv, cwd=cwd, env=env, uid=agent_uid())
            self.pid = launched.pid
            self.stdin, self.stdout, self.stderr = launched.stdin, launched.stdout, launched.stderr
            return
        with as_program(), as_agent() as uid:
            popen = self._popen = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                cwd=cwd,
                env=env,
                start_new_session=True,
                user=user if uid is None else uid,
                group=uid,
            )
        self.pid = popen.pid
        self.stdin, self.stdout, self.stderr = map(_detached, (popen.stdin, popen.stdout, popen.stderr))

    def collected(self, code: int) -> None:
        """Take note of the exit code: the program was waited for."""
        if self._popen is not None:
            self._popen.returncode = code


def model_env(port: int, key: str) -> dict[str, str]:
    """Return what leads an agent's model traffic to the guest."""
    return {"ANTHROPIC_BASE_URL": f"http://127.0.0.1:{port}", "ANTHROPIC_API_KEY": key}


def _detached(pipe: IO[bytes] | None) -> int:
    """Take the fd out of a pipe object, so that the object's end does not close it."""
    assert pipe is not None
    fd = os.dup(pipe.fileno())
    pipe.close()
    return fd

"""Runs the steps by which an image is built, for emulators: really, but kept away from this machine.

A step sees this machine's files and cannot change them. What it writes below /opt/agenthost stays, and is
what machines of that image see there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import anyio
from anyio.streams.text import TextReceiveStream

from agenthost.errors import IsolationUnavailableError
from agenthost.providers.local.interpreter import host_interpreter
from agenthost.providers.local.remedies import install_hint

_KEPT = "/opt/agenthost"
_ENDING = 10.0  # seconds for the end of a step that was cancelled


class ImageBuild:
    """One image that is being built.

    Args:
        directory: What the steps find at /opt/agenthost; made if need be.
        env: Added to the environment of every step: where an index of packages is, for instance.
    """

    def __init__(self, directory: Path, env: Mapping[str, str] | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._env = dict(env or {})

    @property
    def site(self) -> Path:
        """What ``Machines.make`` takes as ``site`` for machines of this image."""
        (self._directory / "site").mkdir(exist_ok=True)
        return self._directory / "site"

    async def run(self, argv: Sequence[str], on_line: Callable[[str], object]) -> int:
        """Run one step and return its exit code. Cancelled, it is killed with all that it started.

        Args:
            argv: The program. ``python3`` is the Python that machines have.
            on_line: Called with each line that it prints, stderr among it.

        Raises:
            IsolationUnavailableError: bubblewrap is missing.
        """
        process = await anyio.open_process(
            [*self._isolated(), *argv],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            env={"PATH": self._path(), "HOME": "/tmp", "LANG": "C.UTF-8", **self._env},
        )
        async with process:
            assert process.stdout is not None
            rest = ""
            try:
                async for text in TextReceiveStream(process.stdout, errors="replace"):
                    *lines, rest = (rest + text).split("\n")
                    for line in lines:
                        on_line(line)
                if rest:
                    on_line(rest)
                return await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()
                # What the step has started dies a moment after its shell, and may write until then. When its
                # output has ended, nothing of this runs any more.
                with anyio.CancelScope(shield=True), anyio.move_on_after(_ENDING):
                    async for _ in process.stdout:
                        pass

    def _isolated(self) -> list[str]:
        bwrap = shutil.which("bwrap")
        if bwrap is None:
            raise IsolationUnavailableError(f"emulators need bubblewrap. Install it: {install_hint()}")
        options = [
            "--ro-bind",
            "/",
            "/",
            "--dev",
            "/dev",
            "--proc",
            "/proc",
            "--tmpfs",
            "/tmp",
            "--tmpfs",
            "/opt",
        ]
        for name in os.listdir("/opt"):
            options += ["--ro-bind", f"/opt/{name}", f"/opt/{name}"]
        # A directory of the emulator's lies below /tmp, which the step has for itself.
        options += ["--bind", str(self._directory), _KEPT, "--chdir", "/tmp"]
        isolated = [bwrap, "--unshare-pid", "--die-with-parent", "--new-session", *options, "--"]
        # Its parent is the thread that starts it, and trio's threads end after some idle seconds: a shell
        # stands between, which is killed when the step is cancelled.
        return ["sh", "-c", '"$@"; exit $?', "sh", *isolated]

    def _path(self) -> str:
        return f"{os.path.dirname(host_interpreter())}:/usr/local/bin:/usr/bin:/bin"

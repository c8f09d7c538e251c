"""A directory with the SDK and what it needs, for another Python: made on this machine by uv or pip."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence

import anyio
from anyio.streams.text import TextReceiveStream

from agenthost.errors import ConfigError, ProviderError
from agenthost.providers.docker.looking import Seen

_KEPT = 15  # lines of what the installer printed last, for an error
_MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}


async def make_site(
    target: str, seen: Seen, requirements: Sequence[str], on_line: Callable[[str], object]
) -> None:
    """Install packages into ``target`` for the Python that was seen; builds nothing, runs nothing of theirs.

    Raises:
        ConfigError: There is neither uv nor pip, or no build of anything for that machine.
        ProviderError: It failed; with the end of what it printed.
    """
    argv = _command(target, seen, requirements)
    last: deque[str] = deque(maxlen=_KEPT)
    process = await anyio.open_process(argv, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, env=_env())
    async with process:
        assert process.stdout is not None
        rest = ""
        async for text in TextReceiveStream(process.stdout, errors="replace"):
            *lines, rest = (rest + text).replace("\r", "\n").split("\n")
            for line in filter(str.strip, lines):
                last.append(line.rstrip())
                on_line(line.rstrip())
        if rest.strip():
            last.append(rest.rstrip())
        code = await process.wait()
    if code != 0:
        said = "\n".join(last)
        raise ProviderError(f"{os.path.basename(argv[0])} could not get {', '.join(requirements)}:\n{said}")


def _command(target: str, seen: Seen, requirements: Sequence[str]) -> list[str]:
    machine = _MACHINES.get(seen.machine)
    if machine is None or seen.glibc is None:
        raise ConfigError(f"there is no build of the claude CLI for {seen.machine}")
    version = f"{seen.version[0]}.{seen.version[1]}"
    if uv := shutil.which("uv"):
        # uv knows of this platform as that of a glibc; the image's own has been looked at.
        platform = f"{machine}-manylinux_{seen.glibc[0]}_{seen.glibc[1]}"
        argv = [uv, "pip", "install", "--no-config", "--target", target, "--python-version", version]
        argv += ["--link-mode", "copy"]  # links to this machine's cache would lead nowhere in an image
        return [*argv, "--python-platform", platform, "--only-binary", ":all:", "--", *requirements]
    if importlib.util.find_spec("pip") is None:
        raise ConfigError(
            "an image is made with uv or pip, and neither is here: "
            f"install uv, or run {sys.executable} -m ensurepip"
        )
    argv = [sys.executable, "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    argv += ["--target", target, "--only-binary=:all:", "--no-compile", "--python-version", version]
    argv += ["--implementation", "cp"]
    for minor in range(seen.glibc[1], 4, -1):
        argv += ["--platform", f"manylinux_{seen.glibc[0]}_{minor}_{machine}"]
    for old in ("manylinux2014", "manylinux2010", "manylinux1", "linux"):
        argv += ["--platform", f"{old}_{machine}"]
    return [*argv, "--", *requirements]


def _env() -> dict[str, str]:
    # The command's own words decide where things go.
    unwanted = ("PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_REQUIRE_VIRTUALENV", "PYTHONPATH")
    return {name: value for name, value in os.environ.items() if name not in unwanted}

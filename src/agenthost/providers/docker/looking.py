"""What an image has of what an agent needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agenthost.errors import BootstrapError
from agenthost.providers.docker.engine import Engine
from agenthost.providers.docker.errors import EngineError
from agenthost.providers.docker.one_off import one_off, run
from agenthost.wire.fields import WRONG_SHAPE
from agenthost.wire.json_bounds import load_json

_SECONDS = 60.0
_PYTHON = (3, 10)
_GLIBC = (2, 26)

# Runs under whatever Python 3 there is, so it stays old-fashioned.
_LOOK = """
import json, os, platform, shutil, sys
sdk = None
try:
    from importlib.metadata import version
    sdk = version("claude-agent-sdk")
except Exception:
    pass
print(json.dumps({
    "python": sys.executable, "version": list(sys.version_info[:2]), "sdk": sdk,
    "bash": shutil.which("bash") is not None, "libc": platform.libc_ver(), "machine": platform.machine(),
}))
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found in an image.

    Attributes:
        python: Path of the interpreter.
        version: Of Python, two numbers.
        machine: As ``platform.machine`` says.
        glibc: Two numbers; None is another C library.
        sdk: Version of claude-agent-sdk that this Python has, None for none.
    """

    python: str
    version: tuple[int, int]
    machine: str
    glibc: tuple[int, int] | None
    bash: bool
    sdk: str | None

    def missing(self) -> list[str]:
        """Return what an agent needs and is not there, in words."""
        found: list[str] = []
        if self.version < _PYTHON:
            found.append(f"Python 3.10 or newer (it has {self.version[0]}.{self.version[1]})")
        if not self.bash:
            found.append("bash")
        if self.glibc is None:
            found.append("glibc 2.26 or newer (it has another C library; Alpine's images do)")
        elif self.glibc < _GLIBC:
            found.append(f"glibc 2.26 or newer (it has {self.glibc[0]}.{self.glibc[1]})")
        return found


async def look_into(engine: Engine, image: str) -> Seen:
    """Run an image's Python once.

    Raises:
        BootstrapError: It has no Python 3 that works.
        EngineError: The engine does not know the image, or cannot run it.
    """
    async with one_off(engine, image, ["python3", "-I", "-c", _LOOK], user="65534:65534") as container:
        try:
            ran = await run(engine, container, within=_SECONDS)
        except EngineError as exc:
            if "executable file" in str(exc) or "not found" in str(exc):
                raise BootstrapError(f"image {image} has no python3: an agent needs 3.10 or newer") from exc
            raise
        except TimeoutError as exc:
            raise BootstrapError(f"python3 in image {image} did not answer in {_SECONDS:g} s") from exc
    try:
        return _seen(load_json(ran.stdout))
    except WRONG_SHAPE:  # of the image's own python3
        said = ran.stderr.decode(errors="replace").strip()[-500:]
        raise BootstrapError(f"python3 does not work in image {image}: {said}") from None


def _seen(told: dict[str, Any]) -> Seen:
    name, version = told["libc"]
    numbers = [int(part) for part in version.split(".")[:2]] if name == "glibc" else []
    return Seen(
        python=str(told["python"]),
        version=(int(told["version"][0]), int(told["version"][1])),
        machine=str(told["machine"]),
        glibc=(numbers[0], numbers[1]) if len(numbers) == 2 else None,
        bash=bool(told["bash"]),
        sdk=told["sdk"],
    )

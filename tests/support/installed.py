"""Distributions that announce providers, installed for one program of a test."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from support.command_line import environment

# A provider as small as one can be for a name to be looked up; it makes nothing.
PROVIDER = """
from agenthost.sandbox import Capabilities

class Provider:
    name = "{name}"
    capabilities = Capabilities(isolation="microvm", networks=frozenset({{"open", "none"}}), ports=True)

    def __init__(self, *, url: str = "http://127.0.0.1", retries: int = 3, token: str | None = None):
        self.url, self.retries, self.token = url, retries, token

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exc_info):
        pass

    def list(self, labels=None):
        return self._list()

    async def _list(self):
        return
        yield

    async def aclose(self):
        pass
"""


def write_module(directory: Path, name: str, source: str | None = None) -> None:
    """Write a module that holds a provider, or ``source``."""
    text = PROVIDER.format(name=name) if source is None else textwrap.dedent(source)
    (directory / f"{name}.py").write_text(text)


def install(directory: Path, distribution: str, entry_points: dict[str, str], version: str = "1.2") -> None:
    """Make a distribution known that announces providers, as pip would."""
    info = directory / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    lines = [f"{name} = {target}" for name, target in entry_points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[agenthost.providers]", *lines, ""]))


def environment_with(directory: Path, changes: dict[str, str] | None = None) -> dict[str, str]:
    """Return an environment in which the distributions of a directory are installed."""
    paths = os.pathsep.join(filter(None, [str(directory), os.environ.get("PYTHONPATH", "")]))
    return environment({"PYTHONPATH": paths, **(changes or {})})


def said_by(source: str, directory: Path) -> str:
    """Run a program where the distributions of a directory are installed; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(source)],
        env=environment_with(directory),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def error_of(expression: str, directory: Path, *, before: str = "pass") -> str:
    """Run an expression that fails; return the exception's class and its whole message."""
    program = f"""
import agenthost
from agenthost import registry
{textwrap.dedent(before)}
try:
    {expression}
except Exception as error:
    print(type(error).__name__, error, sep=": ")
else:
    print("nothing was raised")
"""
    return said_by(program, directory)

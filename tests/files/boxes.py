"""Sandboxes for tests of files, and what lies in them."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.lent import Lent

from agenthost import SandboxSpec, open_provider
from agenthost.sandbox import Sandbox


@asynccontextmanager
async def open_box(provider_name: str) -> AsyncGenerator[Sandbox]:
    """Yield a new sandbox, and end it."""
    if provider_name == "local" and shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    async with open_provider(provider_name) as provider:
        sandbox = await provider.create(SandboxSpec())
        try:
            yield sandbox
        finally:
            await sandbox.terminate()


def with_python(box: Sandbox, python: str) -> Sandbox:
    """Return a sandbox whose Python is another program, and that shows the protocol alone."""
    lent = Lent(box)
    lent.python = python
    return lent


async def sh(box: Sandbox, script: str) -> bytes:
    """Run a script inside that must succeed."""
    result = await box.exec(["sh", "-c", script])
    assert result.exit_code == 0, result.stderr
    return result.stdout


def fill(directory: Path, *names: str) -> None:
    """Make files whose content is their name."""
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name))


def tree(directory: Path) -> dict[bytes, bytes | None]:
    """Return what is in a directory: bytes of files, targets of links, None for directories."""
    found: dict[bytes, bytes | None] = {}
    root = os.fsencode(directory)
    for where, directories, files in os.walk(root):
        for name in (*directories, *files):
            path = os.path.join(where, name)
            relative = os.path.relpath(path, root)
            if os.path.islink(path):
                found[relative] = os.readlink(path)
            elif os.path.isdir(path):
                found[relative] = None
            elif os.path.isfile(path):
                with open(path, "rb") as file:
                    found[relative] = file.read()
            else:
                found[relative] = b"special"
    return found

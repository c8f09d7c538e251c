"""Runners that are forked from a process which has imported the SDK once."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from agenthost.link.client import GuestSandbox
from agenthost.providers.local.local_unisolated import UnisolatedProvider
from agenthost.spec import SandboxSpec

SDK = """
import mcp, os
print("printed at the import")
class ClaudeSDKClient: pass
__version__ = f"{version} imported by {{os.getpid()}}, mcp {{mcp.real is True}}"
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Give a directory with an SDK that is good for a start."""
    folder = tmp_path / "site"
    install(folder, "1.0")
    (folder / "mcp").mkdir()
    (folder / "mcp" / "__init__.py").write_text("real = True\n")
    return folder


def install(site: Path, version: str) -> None:
    """Put an SDK where runners look for it, as pip does: with a directory about the package."""
    (site / "claude_agent_sdk").mkdir(parents=True, exist_ok=True)
    (site / f"claude_agent_sdk-{version}.dist-info").mkdir()
    (site / "claude_agent_sdk" / "__init__.py").write_text(SDK.format(version=version))


@pytest.fixture
async def box(anyio_backend: str, site: Path) -> AsyncIterator[GuestSandbox]:
    """Give a sandbox whose SDK is that of the test."""
    del anyio_backend
    async with UnisolatedProvider(site=str(site)) as provider:
        made = await provider.create(SandboxSpec())
        try:
            yield made
        finally:
            await made.terminate()


async def version_of(box: GuestSandbox, name: str, *, mcp: bool = False, secret: str = "") -> str:
    """Start an agent, and end it when its runner has told the version of its SDK, which is returned."""
    seen = b""
    async with box.agent(name, env={"SECRET": secret}, model=False, mcp=mcp) as channel:
        while b'"ready"' not in seen:
            seen += await channel.receive()
    (ready,) = (event for event in map(json.loads, seen.splitlines()) if event.get("state") == "ready")
    return ready["sdk_version"]


async def test_the_sdk_is_imported_once_for_all_agents_of_a_sandbox(box: GuestSandbox) -> None:
    first = await version_of(box, "first")
    assert first.startswith("1.0 imported by")
    assert [await version_of(box, name) for name in ("second", "third")] == [first, first]


async def test_an_agent_with_servers_in_process_is_forked_from_a_template_of_its_own(
    box: GuestSandbox,
) -> None:
    plain = await version_of(box, "plain")
    served = await version_of(box, "served", mcp=True)
    assert (plain[-9:], served[-8:]) == ("mcp False", "mcp True")
    assert [await version_of(box, f"served-{n}", mcp=True) for n in range(2)] == [served, served]
    assert await version_of(box, "plain again") == plain


async def test_an_agent_gets_the_sdk_that_was_installed_after_the_last_one_started(
    box: GuestSandbox, site: Path
) -> None:
    old = await version_of(box, "first")
    install(site, "10.0")  # of another length: Python looks at seconds and bytes
    new = await version_of(box, "second")
    assert (old[:4], new[:4]) == ("1.0 ", "10.0")
    assert await version_of(box, "third") == new


async def test_agents_that_start_at_once_do_not_wait_for_the_import_of_the_first(box: GuestSandbox) -> None:
    found: list[str] = []

    async def start(name: str) -> None:
        found.append(await version_of(box, name))

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(start, f"agent-{number}")
    assert len(found) == 5


@pytest.mark.skipif(
    os.geteuid() != 0, reason="not in CI: only root can look into the memory of another process"
)
async def test_nothing_of_the_agent_that_leaves_a_template_behind_is_in_it(
    box: GuestSandbox, site: Path
) -> None:
    secret = secrets.token_hex(16)
    async with box.agent("first", env={"SECRET": secret}, model=False) as channel:
        assert await channel.receive()
        (runner,) = (pid for pid, (_, command) in processes().items() if str(site) in command)
        guest = processes()[runner][0]
        (template,) = (
            pid
            for pid, (parent, command) in processes().items()
            if parent == guest and command.startswith("agenthost template")
        )
        assert [secret.encode() in memory_of(pid) for pid in (runner, template)] == [True, False]


def processes() -> dict[int, tuple[int, str]]:
    """Return parent and command of each process."""
    found: dict[int, tuple[int, str]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue  # it has ended, or is not a process
        found[int(entry.name)] = int(parent), command
    return found


def memory_of(pid: int) -> bytes:
    """Return what a process can write to."""
    parts: list[bytes] = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            span, rights, *_ = line.split()
            if rights.startswith("rw"):
                start, end = (int(part, 16) for part in span.split("-"))
                memory.seek(start)
                parts.append(memory.read(end - start))
    return b"".join(parts)

"""The demo's probes find what is there: each leak is made once, in a real sandbox."""

from __future__ import annotations

import secrets
import shutil
import socket
import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agenthost.cli.probes import Finding, look_from_inside
from agenthost.registry import open_provider
from agenthost.sandbox import Sandbox
from agenthost.spec import Mount, NetworkPolicy, SandboxSpec

KEY = f"sk-ant-{secrets.token_hex(24)}"

pytestmark = [
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed"),
    # The probes run in the test's own event loop; the commands of the other files do not.
    pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"], scope="module"),
]


@pytest.fixture
def port() -> Iterator[int]:
    """Listen on the host, for the probe to fail to reach."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def readable_directory() -> Iterator[str]:
    """Make a temporary directory that everybody may list, as /tmp is."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield directory


@asynccontextmanager
async def sandbox(**fields: object) -> AsyncGenerator[Sandbox]:
    spec = SandboxSpec(max_lifetime=300, **fields)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - fields by name
    async with open_provider("local") as provider:
        made = await provider.create(spec)
        try:
            yield made
        finally:
            await made.terminate()


async def look(made: Sandbox, port: int) -> dict[str, Finding]:
    return {finding.name: finding for finding in await look_from_inside(made, KEY, port)}


async def test_a_tight_sandbox_passes_and_every_control_finds_its_canary(port: int) -> None:
    async with sandbox() as made:
        found = await look(made, port)
    assert set(found) == {"key", "network", "host files"}
    assert [finding.found for finding in found.values()] == [[], [], []]
    assert all(finding.control and finding.good for finding in found.values())


async def test_a_key_in_an_environment_a_command_line_or_a_file_is_found(port: int) -> None:
    async with sandbox(env={"LEAK": KEY}) as made:
        await made.write_file("notes/it's here.txt", b"x" * 5_000_000 + KEY.encode())
        async with made.spawn(["python3", "-c", "import sys; sys.stdin.read()", KEY]) as process:
            found = await look(made, port)
            number = process.pid
    places = " | ".join(found["key"].found)
    assert f"cmdline of process {number}" in places
    assert "environ of process " in places
    assert f"file {made.workdir}/notes/it's here.txt" in places
    assert not found["key"].good


async def test_a_key_in_the_memory_of_a_process_is_found(port: int) -> None:
    program = (
        "import sys; kept = [sys.stdin.readline()] + ['x' * 50_000_000]; print(flush=True); sys.stdin.read()"
    )
    async with sandbox() as made, made.spawn(["python3", "-c", program]) as process:
        await process.send_stdin(KEY.encode() + b"\n")
        assert await process.receive_stdout() == b"\n"
        found = await look(made, port)
        assert f"memory of process {process.pid}" in found["key"].found


async def test_a_network_is_found(port: int) -> None:
    async with sandbox(network=NetworkPolicy.open()) as made:
        found = await look(made, port)
    assert f"port {port} of the host" in found["network"].found
    assert not found["network"].good


async def test_a_directory_of_the_host_is_found(
    port: int, readable_directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", readable_directory)
    async with sandbox(mounts=(Mount(source=readable_directory, target=readable_directory),)) as made:
        found = await look(made, port)
    assert any(
        where.startswith(f"{readable_directory}/agenthost-demo-") for where in found["host files"].found
    )
    assert any(where.startswith("a file named agenthost-demo-") for where in found["host files"].found)
    assert not found["host files"].good

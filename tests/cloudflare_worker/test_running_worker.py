"""How workerd is run: on both event loops, and gone with whatever has started it."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

import anyio
import httpx
import pytest
from cloudflare_worker.calls import KEY, ROOT

from agenthost.errors import MissingExtraError
from agenthost.testing.emulators.cloudflare import worker

WITHIN = 30.0  # seconds
PROGRAM = """
import anyio
from agenthost.testing.emulators.cloudflare.worker import running_worker

async def main():
    async with running_worker("http://127.0.0.1:1", "k") as running:
        print(running.url, flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""


async def until_nothing_listens(url: str) -> None:
    """Return when connections to an address are refused."""
    with anyio.fail_after(WITHIN):
        async with httpx.AsyncClient() as http:
            while True:
                try:
                    await http.get(url)
                except httpx.HTTPError:
                    return


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_worker_runs_while_its_block_is_open(anyio_backend: str) -> None:
    del anyio_backend
    async with worker.running_worker("http://127.0.0.1:1", KEY) as running, httpx.AsyncClient() as http:
        headers = {"authorization": f"Bearer {KEY}"}
        assert (await http.get(f"{running.url}{ROOT}", headers=headers)).status_code == 200
    await until_nothing_listens(running.url)
    assert not running.log.parent.exists()


async def test_a_worker_ends_when_its_block_is_cancelled() -> None:
    url = ""
    with anyio.CancelScope() as scope:
        async with worker.running_worker("http://127.0.0.1:1", KEY) as running:
            url = running.url
            scope.cancel()
            await anyio.sleep_forever()
    await until_nothing_listens(url)


async def test_a_worker_ends_with_a_host_that_is_killed(tmp_path: Path) -> None:
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    async with await anyio.open_process([sys.executable, "-c", PROGRAM], stderr=None, env=env) as host:
        assert host.stdout is not None
        with anyio.fail_after(WITHIN):
            url = (await host.stdout.receive()).decode().strip()
        host.kill()
    await until_nothing_listens(url)


async def test_a_worker_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def bundle(_packages: Path) -> bytes:
        return b"throw new Error('this one does not start')"

    monkeypatch.setattr(worker, "bundle", bundle)
    with pytest.raises(RuntimeError, match="this one does not start"):
        async with worker.running_worker("http://127.0.0.1:1", KEY):
            pass


def test_without_its_packages_the_command_that_installs_them_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(worker.MODULES, str(tmp_path))
    with pytest.raises(MissingExtraError, match="agenthost cloudflare init DIR && cd DIR && npm ci"):
        worker.modules()


def test_a_bundle_that_cannot_be_made_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(worker, "SOURCE", tmp_path)
    with pytest.raises(RuntimeError, match="Could not resolve"):
        worker.bundle.__wrapped__(worker.modules())


async def test_the_key_is_no_argument_of_a_process() -> None:
    async with worker.running_worker("http://127.0.0.1:1", KEY):
        command_lines: list[bytes] = []
        for process in Path("/proc").glob("[0-9]*"):  # noqa: ASYNC240 - not files of a disk
            with suppress(OSError):  # it has ended meanwhile
                command_lines.append((process / "cmdline").read_bytes())
    assert any(b"workerd" in line for line in command_lines)
    assert not any(KEY.encode() in line for line in command_lines)

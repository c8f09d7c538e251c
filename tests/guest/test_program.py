"""The guest's program as a whole: on an old Python, detached, and called wrongly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from guest.model_agent import script_agent
from guest.plain_guest import plain_guest
from support.old_python import old_python
from support.processes import is_alive
from support.waiting import until_true

from agenthost.adapter.boot import guest_zipapp
from agenthost.link.client import GuestSandbox

SECONDS = 60.0  # until a test is taken to hang


async def try_everything(sandbox: GuestSandbox) -> None:
    """Use what a guest can do."""
    result = await sandbox.exec(["sh", "-c", "cat; echo err >&2; exit 3"], stdin=b"in \xff" * 20_000)
    assert (result.exit_code, result.stdout, result.stderr) == (3, b"in \xff" * 20_000, b"err\n")
    data = bytes(range(256)) * 10_000
    await sandbox.write_file("a/b", data)
    assert await sandbox.read_file("a/b") == data
    with pytest.raises(FileNotFoundError):
        await sandbox.read_file("missing")
    async with sandbox.spawn(["cat"]) as process:
        await process.send_stdin(b"line\n")
        assert await process.receive_stdout() == b"line\n"
    async with script_agent(sandbox, "tell(ask(connect(), body=b'question'))") as agent:
        assert (await agent.answer(b"answer"))[1] == b"question"
        assert await agent.told() == [200, "answer"]


async def test_the_guest_runs_on_python_3_10(tmp_path: Path) -> None:
    python = old_python()
    with anyio.fail_after(SECONDS):
        async with plain_guest(python, tmp_path) as sandbox:
            about = await sandbox.session.call("about", {})
            assert about["python"].startswith("3.10.")
            await try_everything(sandbox)


async def test_a_guest_that_detached_itself_adopts_orphans_and_ends_when_told(tmp_path: Path) -> None:
    with anyio.fail_after(SECONDS):
        async with plain_guest(sys.executable, tmp_path, "start") as sandbox:
            await try_everything(sandbox)
            guest = (await sandbox.exec(["sh", "-c", "echo $PPID"])).stdout
            orphan = "setsid sh -c 'until [ $(ps -o ppid= -p $$) = $0 ]; do :; done; echo adopted' $0 & exit"
            result = await sandbox.exec(["sh", "-c", f"({orphan})", guest.decode().strip()])
            assert result.stdout == b"adopted\n"
            log = tmp_path / "guest.sock.log"
            assert log.stat().st_mode & 0o7777 == 0o600
            assert log.read_text() == ""
            assert (tmp_path / "guest.sock").stat().st_mode & 0o7777 == 0o600
            assert (tmp_path / "spool").stat().st_mode & 0o7777 == 0o700
        await until_true(lambda: not is_alive(int(guest)))


@pytest.mark.parametrize("arguments", [[], ["frobnicate"]], ids=["nothing", "nonsense"])
def test_a_guest_called_wrongly_says_how(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "guest.pyz").write_bytes(guest_zipapp())
    argv = [sys.executable, "-I", "-S", str(tmp_path / "guest.pyz"), *arguments]
    done = subprocess.run(argv, capture_output=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(b"usage: guest.pyz serve|start")

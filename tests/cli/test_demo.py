"""``agenthost demo``: the main job, from one command."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import anyio
import pytest
from cli.scripted_runs import sandboxes
from support.command_line import COMMAND, environment, run_agenthost

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")


async def test_the_agent_mends_the_program_and_the_sandbox_is_tight() -> None:
    done = await run_agenthost("demo")
    assert done.exit_code == 0, done.stdout + done.stderr
    test = "python3 -m unittest exits with"
    assert f"before: {test} 1 (FAILED (failures=2))" in done.stdout
    assert f"after: {test} 0 (OK)" in done.stdout
    for line in (
        "tool     Edit /workspace/invoice.py",
        "claude   The tests pass now. `total` divided by 10 where a percentage asks for 100.",
        "         +    return sum(cents) * (100 - discount_percent) // 100",
        "ok   the key is not in the sandbox",
        "ok   there is no network",
        "ok   none of your files is there",
        "     control: it finds a canary in each of these places",
        (
            "     visible: the system's directories (/usr ...), Python and the packages beside the SDK, "
            "read-only"
        ),
    ):
        assert line in done.stdout.splitlines()
    assert "\x1b" not in done.stdout
    assert "sk-ant-demo" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert sandboxes() == []


@pytest.mark.full
async def test_ctrl_c_ends_it_and_leaves_nothing() -> None:
    async with await anyio.open_process([COMMAND, "demo"], env=environment()) as process:
        assert process.stdout is not None
        seen = b""
        async for chunk in process.stdout:
            seen += chunk
            if b"you      " in seen:
                process.send_signal(signal.SIGINT)
                break
        seen += b"".join([chunk async for chunk in process.stdout])
        assert await process.wait() == 130, seen.decode()
    assert sandboxes() == []


async def test_without_bubblewrap_it_names_the_fix(tmp_path: Path) -> None:
    done = await run_agenthost("demo", env={"PATH": str(tmp_path)})
    assert done.exit_code == 1
    assert "bubblewrap" in done.stderr
    assert "Traceback" not in done.stderr

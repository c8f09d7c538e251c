"""Programs in the pages of the documentation run as they stand."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import anyio
import pytest
from support.command_line import environment

from agenthost.testing import ScriptedModel, Text, ToolUse

DOCS = Path(__file__).parent.parent.parent / "docs"


def program(page: str) -> str:
    """Return the first whole program of a page."""
    found = re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    return next(text for text in found if "anyio.run" in text)


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
async def test_the_program_of_the_page_on_callbacks_runs(tmp_path: Path) -> None:
    script = [
        ToolUse("mcp__shop__stock", {"part": "bolts"}),
        ToolUse("Bash", {"command": "rm -r everything"}),
        Text("Seven."),
    ]
    async with ScriptedModel(script) as model:
        env = environment({"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "sk-ant-docs"})
        argv = [sys.executable, "-c", program("callbacks.md")]
        done = await anyio.run_process(argv, env=env, cwd=tmp_path, check=False)
    assert done.returncode == 0, (done.stderr or b"").decode()
    said = done.stdout.decode()
    assert "'text': '7'" in said
    assert "nothing is removed here" in said


async def test_the_program_of_the_page_on_reaping_runs(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", program("reaping.md")]
    done = await anyio.run_process(argv, env=environment({}), cwd=tmp_path, check=False)
    assert done.returncode == 0, (done.stderr or b"").decode()


def test_the_kits_as_the_contract_shows_them_are_collected(pytester: pytest.Pytester) -> None:
    (shown,) = re.findall(
        r"^```python\n(.*?)^```", (DOCS / "contract.md").read_text(), re.MULTILINE | re.DOTALL
    )
    pytester.makepyfile(test_mine=shown.replace('"mine"', '"local-unisolated"'))
    run = pytester.runpytest_subprocess("-q", "-rs", "-k", "asyncio and (parents_are_made or tools_work)")
    run.assert_outcomes(passed=2)

"""The page on agents that outlive their host says what is true: its programs run, its commands exist."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from pathlib import Path

import anyio
import pytest
from support.command_line import environment

from agenthost.testing import ScriptedModel, Text, ToolUse

PAGE = (Path(__file__).parent.parent.parent / "docs" / "detached-agents.md").read_text()
PROGRAM, OBSERVER = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
# The observer looks when the agent has been taken over, so that there is something to see.
_TAKEN = "        async for message in agent.receive_response():\n            print(agent.cursor, message)\n"
_WATCH = """
async def watch(ref):
{observer}
"""


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
async def test_the_programs_run_as_they_stand(tmp_path: Path) -> None:
    assert _TAKEN in PROGRAM
    observer = _WATCH.format(observer=textwrap.indent(OBSERVER, "    "))
    source = observer + PROGRAM.replace(
        _TAKEN, f"{_TAKEN}        print('observed:')\n        await watch(ref)\n"
    )
    script = [ToolUse("Bash", {"command": "echo 2 3 5 7 > primes.txt"}), Text("Written.")]
    async with ScriptedModel(script) as model:
        env = environment({"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "sk-ant-page"})
        done = await anyio.run_process([sys.executable, "-c", source], env=env, cwd=tmp_path, check=False)
    assert done.returncode == 0, (done.stderr or b"").decode()
    driven, _, observed = done.stdout.decode().partition("observed:\n")
    assert "Written." in driven
    # Both saw the same; the driver prints each message behind its cursor.
    assert [line.partition(" ")[2] for line in driven.splitlines()] == observed.splitlines()
    assert (tmp_path / "primes" / "primes.txt").read_text() == "2 3 5 7\n"

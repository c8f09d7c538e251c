"""The README says what is true: its program runs, its commands exist, its table is honest."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import anyio
import pytest
from support.command_line import environment

from agenthost.registry import provider_names
from agenthost.testing import ScriptedModel, Text, ToolUse

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind == language]


def test_the_first_screen_has_what_a_newcomer_looks_for() -> None:
    screen = "\n".join(README.splitlines()[:40])
    for needed in ("scripts/demo", "scripts/test", "HostedAgent(", "| provider |"):
        assert needed in screen


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
async def test_the_program_of_the_readme_runs_as_it_stands(tmp_path: Path) -> None:
    program = blocks("python")[0]
    lines = [line for line in program.splitlines() if line.strip()]
    assert len(lines) <= 10
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "code.py").write_text("broken\n")
    script = [ToolUse("Bash", {"command": "echo mended > code.py"}), Text("Mended.")]
    async with ScriptedModel(script) as model:
        env = environment({"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "sk-ant-readme"})
        done = await anyio.run_process([sys.executable, "-c", program], env=env, cwd=tmp_path, check=False)
    assert done.returncode == 0, (done.stderr or b"").decode()
    assert "ResultMessage" in done.stdout.decode()
    assert (tmp_path / "fixed" / "code.py").read_text() == "mended\n"
    assert (tmp_path / "app" / "code.py").read_text() == "broken\n"


def test_the_scripts_of_the_readme_exist() -> None:
    scripts = re.findall(r"^(scripts/\w+)", "\n".join(blocks("sh")), re.MULTILINE)
    assert "scripts/demo" in scripts
    assert [name for name in scripts if not (ROOT / name).is_file()] == []


def test_the_table_of_providers_says_what_works_today() -> None:
    rows = re.findall(r"^\| (\[?`.*?) \|.*\| (.*?) \|$", README, re.MULTILINE)
    working = {
        name for names, today in rows if today.startswith("works") for name in re.findall(r"`(.+?)`", names)
    }
    assert working == set(provider_names())

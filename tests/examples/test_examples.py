"""The examples run as they stand."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio
import pytest

from agenthost.testing import ScriptedModel, Text, ToolUse

EXAMPLES = Path(__file__).parents[2] / "examples"


async def run_example(name: str, *arguments: str, env: dict[str, str] | None = None) -> str:
    """Run one with this interpreter and return what it prints."""
    argv = [sys.executable, str(EXAMPLES / name), *arguments]
    with anyio.fail_after(120):
        done = await anyio.run_process(argv, env={**os.environ, **(env or {})}, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


async def test_the_quickstart_brings_a_changed_copy_back_and_leaves_the_original_alone(
    tmp_path: Path,
) -> None:
    app = tmp_path / "app"
    app.mkdir()
    (app / "greeting.txt").write_text("hello\n")
    script = [
        ToolUse("Read", {"file_path": "/workspace/greeting.txt"}),
        ToolUse(
            "Edit",
            {"file_path": "/workspace/greeting.txt", "old_string": "hello", "new_string": "good day"},
        ),
        Text("It is politer now."),
    ]
    async with ScriptedModel(script, api_key="sk-ant-scripted") as model:
        env = {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "sk-ant-scripted"}
        out = await run_example("quickstart.py", str(app), str(tmp_path / "fixed"), "Be politer", env=env)
        model.assert_played()
    assert "[Edit]" in out
    assert "It is politer now." in out
    assert "success after" in out
    assert (tmp_path / "fixed" / "greeting.txt").read_text() == "good day\n"
    assert (app / "greeting.txt").read_text() == "hello\n"


async def test_a_sandbox_is_of_use_without_an_agent() -> None:
    out = await run_example("sandbox_only.py")
    assert out == "0 hello from /workspace\na line\ncat ended with 0\n"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_every_example_is_run_by_a_test(path: Path) -> None:
    assert f'"{path.name}"' in Path(__file__).read_text()

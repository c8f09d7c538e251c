"""The examples run as they stand."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from examples.running import EXAMPLES, KEY, run_example
from support.hosting import model_environment

from agenthost.testing import ModelRequest, ScriptedModel, Text, ToolUse

HERE = Path(__file__).parent


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
    async with ScriptedModel(script, api_key=KEY) as model:
        arguments = [str(app), str(tmp_path / "fixed"), "Be politer"]
        out = await run_example("quickstart.py", *arguments, env=model_environment(model, KEY))
        model.assert_played()
    assert "[Edit]" in out
    assert "It is politer now." in out
    assert "success after" in out
    assert (tmp_path / "fixed" / "greeting.txt").read_text() == "good day\n"
    assert (app / "greeting.txt").read_text() == "hello\n"


async def test_a_sandbox_is_of_use_without_an_agent() -> None:
    out = await run_example("sandbox_only.py")
    assert out == "0 hello from /workspace\na line\ncat ended with 0\n"


async def test_tools_of_the_host_are_called_from_the_sandbox() -> None:
    script = [
        [ToolUse("mcp__shop__find_orders", {"state": "late"})],
        [ToolUse("mcp__shop__cancel_order", {"id": 2}), ToolUse("mcp__shop__cancel_order", {"id": 9})],
        ToolUse("mcp__shop__chart", {}),
        Text("Coffee is cancelled."),
    ]
    async with ScriptedModel(script, api_key=KEY) as model:
        out = await run_example("host_tools.py", "Cancel the coffee", env=model_environment(model, KEY))
        model.assert_played()
        found, cancelled, drawn = model.turns[1:]
    tools = {f"mcp__shop__{name}" for name in ("find_orders", "cancel_order", "chart")}
    assert tools <= set(model.turns[0].tools)
    assert not {"Bash", "Read", "Write"} & set(model.turns[0].tools)
    assert [one.text for one in found.tool_results] == ["2: 30 x coffee\n4: 2 x salt"]
    assert [(one.text, one.is_error) for one in cancelled.tool_results] == [
        ("order 2 is cancelled", False),
        ("there is no order 9", True),
    ]
    picture = base64.b64decode(image_of(drawn)["source"]["data"])
    assert picture.startswith(b"\x89PNG\r\n")
    assert "[mcp__shop__cancel_order] {'id': 2}" in out
    assert out.splitlines()[-4:] == ["1 tea open", "2 coffee cancelled", "3 sugar open", "4 salt late"]


def image_of(request: ModelRequest) -> dict[str, Any]:
    """Return the only image in the latest results of tools."""
    (image,) = [
        part
        for block in request.messages[-1]["content"]
        if block["type"] == "tool_result"
        for part in block["content"]
        if part["type"] == "image"
    ]
    return image


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_every_example_is_run_by_a_test_and_named_in_the_readme(path: Path) -> None:
    assert any(f'"{path.name}"' in test.read_text() for test in HERE.glob("test_*.py"))
    assert f"examples/{path.name}" in (EXAMPLES.parent / "README.md").read_text()

"""A Sandbox that is implemented directly hosts the real agent."""

from __future__ import annotations

from support.examples import EXAMPLES, KEY, model_environment, run_example

from agenthost.testing import ScriptedModel, Text, ToolUse


async def test_it_hosts_the_real_agent() -> None:
    script = [ToolUse("Bash", {"command": "echo made > it; cat it"}), Text("Done.")]
    async with ScriptedModel(script, api_key=KEY) as model:
        out = await run_example("direct_sandbox.py", "Make it", env=model_environment(model))
        model.assert_played()
        assert [one.text for one in model.turns[1].tool_results] == ["made"]
    assert "result='Done.'" in out


def test_it_is_small() -> None:
    """Lines that are not empty."""
    text = (EXAMPLES / "direct_sandbox.py").read_text()
    sandbox = text[text.index("class DirectProcess") : text.index("async def main")]
    assert sum(bool(line.strip()) for line in sandbox.splitlines()) <= 80

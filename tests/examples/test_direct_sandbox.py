"""A Sandbox that is implemented directly hosts the real agent, and keeps what its page says."""

from __future__ import annotations

import importlib.util
import re
import tempfile
from collections.abc import AsyncGenerator, Mapping
from typing import ClassVar

import pytest
from examples.running import EXAMPLES, KEY, run_example
from support.hosting import model_environment

from agenthost import Sandbox
from agenthost.testing import SandboxConformance, ScriptedModel, Text, ToolUse
from agenthost.testing.conformance import checks_of

FILE = EXAMPLES / "direct_sandbox.py"
PAGE = EXAMPLES.parent / "docs" / "write-an-adapter.md"


async def test_it_hosts_the_real_agent() -> None:
    script = [ToolUse("Bash", {"command": "echo made > it; cat it"}), Text("Done.")]
    async with ScriptedModel(script, api_key=KEY) as model:
        out = await run_example("direct_sandbox.py", "Make it", env=model_environment(model, KEY))
        model.assert_played()
        assert [one.text for one in model.turns[1].tool_results] == ["made"]
    assert "result='Done.'" in out


@pytest.mark.full
class TestDirectSandbox(SandboxConformance):
    patience = 30.0  # one of its deviations is to wait
    known_deviations: ClassVar[Mapping[str, str]] = {
        "test_a_child_in_the_background_does_not_hold_the_result_up": "exec waits for its streams to end",
        "test_what_cannot_be_read_is_the_builtin_error": "the error names the whole path",
        "test_what_cannot_be_written_is_the_builtin_error_and_names_the_path": "it names the whole path",
        "test_any_name_is_a_name": "a NUL is refused in other words",
        "test_a_path_is_a_text": "a path of pathlib's is taken, too",
        "test_what_no_program_can_be_given_is_refused_by_the_arguments_name": "the error has no name",
        "test_a_link_is_replaced_and_not_written_through": "it is written through",
    }

    @pytest.fixture
    async def sandbox(self) -> AsyncGenerator[Sandbox]:
        spec = importlib.util.spec_from_file_location("direct_sandbox", FILE)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        with tempfile.TemporaryDirectory() as directory:
            sandbox = module.DirectSandbox(directory)
            try:
                yield sandbox
            finally:
                await sandbox.terminate()


def test_the_page_names_the_clauses_that_it_does_not_keep() -> None:
    clauses = {name: clause.number for name, clause in checks_of(SandboxConformance)}
    deviations = {clauses[name] for name in TestDirectSandbox.known_deviations}
    (told,) = re.findall(r"It does not keep ([^:]*):", PAGE.read_text())
    assert set(re.findall(r"\d+\.\d+", told)) == deviations


def test_it_is_small() -> None:
    """Lines that are not empty."""
    text = FILE.read_text()
    sandbox = text[text.index("class DirectProcess") : text.index("async def main")]
    assert sum(bool(line.strip()) for line in sandbox.splitlines()) <= 83

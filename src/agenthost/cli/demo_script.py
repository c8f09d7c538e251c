"""What the scripted model says in the demo. It plays the model; everything else is real."""

from __future__ import annotations

from collections.abc import Sequence

from agenthost.testing import ModelRequest, Step, Text, ToolUse

PROMPT = "The tests in this directory fail. Find out why and mend the code, not the tests."
TEST_COMMAND = ("python3", "-m", "unittest")
MENDED_FILE = "invoice.py"


def demo_script(workdir: str) -> Sequence[Step]:
    """Return the steps of a model that reads the code, mends it and runs its test."""
    code = f"{workdir}/{MENDED_FILE}"
    test = ToolUse("Bash", {"command": " ".join(TEST_COMMAND), "description": "Run the tests"})
    return [
        [
            Text("I will read the code and see what its tests say."),
            ToolUse("Read", {"file_path": code}),
            test,
        ],
        [
            Text("The sum is divided by 10; for percent it must be 100."),
            ToolUse("Edit", {"file_path": code, "old_string": "// 10\n", "new_string": "// 100\n"}),
        ],
        test,
        _conclude,
    ]


def _conclude(request: ModelRequest) -> Text:
    """Say what the last run of the tests showed: the tool really ran."""
    result = request.tool_results[-1]
    if result.is_error:
        return Text(f"The tests still fail:\n{result.text}")
    return Text("The tests pass now. `total` divided by 10 where a percentage asks for 100.")

"""What the runner asks its host: once each, until it is answered, and again of the next host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from claude_agent_sdk import PermissionResultAllow
from support.runner_process import CODEC, RunnerProcess, run_runner

from agenthost.testing import FakeCLI

LIMIT = 60


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """The runner is a process of its own: who talks to it makes no difference."""
    return "asyncio"


async def begin(runner: RunnerProcess, tmp_path: Path, **callbacks: Any) -> None:
    """Connect to a CLI whose first prompt asks whether it may use a tool."""
    cli = FakeCLI([FakeCLI.tool("Bash", {"command": "ls"}, ask=True)])
    options = CODEC.encode({"cli_path": cli.write(tmp_path / "claude")})
    await runner.send("connect", options=options, callbacks=callbacks, sdk_version="0")
    await runner.query("go")


async def finish(runner: RunnerProcess) -> None:
    await runner.send("end")
    assert (await runner.rest())["error"] is None


def allowed() -> Any:
    return CODEC.encode(PermissionResultAllow())


async def test_an_answer_to_a_question_that_is_not_open_is_refused(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path) as runner:
            await begin(runner, tmp_path, can_use_tool=True)
            asked = await runner.until("request", what="can_use_tool", tool_name="Bash")
            await runner.send("answer", id=asked["id"] + 1, ok=True, result=allowed())  # foreign
            await runner.until("answer_refused", id=asked["id"] + 1)
            await runner.send("answer", id=asked["id"], ok=True, result=allowed())
            await runner.until("answered", id=asked["id"])
            await runner.send("answer", id=asked["id"], ok=True, result=allowed())  # late
            await runner.until("answer_refused", id=asked["id"])
            await finish(runner)
    assert len(runner.messages("ResultMessage")) == 1


async def test_the_next_driver_is_asked_again_behind_the_word_that_it_is_there(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path) as runner:
            await runner.send("driver", epoch=1, present=True, shown=0)
            await begin(runner, tmp_path, can_use_tool=True)
            first = await runner.until("request", what="can_use_tool")
            await runner.send("driver", epoch=2, present=True, shown=10**6)
            await runner.send("attach")
            told = await runner.until("state", state="attached")
            again = await runner.until("request", what="can_use_tool")
            await runner.send("answer", id=again["id"], ok=True, result=allowed())
            await runner.until_message("ResultMessage")
            await finish(runner)
    assert (told["epoch"], told["connected"], told["busy"]) == (2, True, True)
    assert {**first, "again": True, "seq": 0, "ts": 0} == {**again, "seq": 0, "ts": 0}


async def test_a_decision_is_denied_only_when_no_driver_was_there_for_so_long(tmp_path: Path) -> None:
    cli = FakeCLI([FakeCLI.tool("Bash", {"command": "ls"}, ask=True)])
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path) as runner:
            await runner.send("driver", epoch=1, present=True, shown=0)
            options = CODEC.encode({"cli_path": cli.write(tmp_path / "claude")})
            callbacks = {"can_use_tool": True}
            await runner.send(
                "connect", options=options, callbacks=callbacks, sdk_version="0", decision_wait=0.05
            )
            await runner.query("go")
            await runner.until("request")
            # With a driver there it waits: this answer comes long after that time.
            await runner.call("get_server_info")
            await runner.until("reply")
            assert not [event for event in runner.events if event["kind"] == "answered"]
            await runner.send("driver", epoch=1, present=False, shown=0)
            message = await runner.until_message("UserMessage")
            assert "nobody was there to decide this in time" in str(message)
            await finish(runner)


async def test_an_answer_that_cannot_be_read_is_an_error_and_no_hang(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path) as runner:
            await begin(runner, tmp_path, can_use_tool=True)
            asked = await runner.until("request")
            await runner.send("answer", id=asked["id"], ok=True, result={"$nonsense": 1})
            message = await runner.until_message("UserMessage")
            assert "the answer cannot be read" in str(message)
            await finish(runner)

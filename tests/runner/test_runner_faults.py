"""What the host is told when the CLI misbehaves. A fake CLI does what the real one does not do on demand."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.runner_process import FAKE_CLI, RunnerProcess, is_alive, run_runner, wait_for_file

LIMIT = 60


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """The runner is a process of its own: who talks to it makes no difference."""
    return "asyncio"


async def start(runner: RunnerProcess, prompt: str | None = "hello", **options: Any) -> None:
    await runner.connect(cli_path=str(FAKE_CLI), **options)
    if prompt is not None:
        await runner.query(prompt)


async def test_a_cli_that_dies_in_a_turn_is_a_process_error_with_its_exit_code_and_last_words(
    tmp_path: Path,
) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path, fake="die_mid_turn") as runner:
            await start(runner)
            end = await runner.rest()

    error = end["error"]
    assert error["type"] == "ProcessError"
    assert error["bases"] == ["ClaudeSDKError", "Exception"]
    assert error["exit_code"] == 137
    assert error["stderr"] == "warming up\nout of cheese: ünïcode \U0001f9c0"
    assert "out of cheese" in error["message"]
    assert "exit code: 137" in error["message"]
    assert runner.messages()[0].content[0].text == "so far"
    lines = [event["line"] for event in runner.events if event["kind"] == "stderr"]
    assert lines == ["warming up", "out of cheese: ünïcode \U0001f9c0"]


async def test_a_cli_that_is_killed_tells_the_signal_and_what_most_often_sends_it(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path, fake="killed_mid_turn") as runner:
            await start(runner)
            end = await runner.rest()

    assert (end["error"]["type"], end["error"]["exit_code"]) == ("ProcessError", -signal.SIGKILL)
    assert "killed as the kernel does when memory runs out (exit code: -9)" in end["error"]["message"]


async def test_a_cli_that_dies_before_it_answers_is_a_process_error_with_its_stderr(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path, fake="die_at_start") as runner:
            await start(runner)
            end = await runner.rest()

    error = end["error"]
    assert (error["type"], error["exit_code"]) == ("ProcessError", 3)
    assert error["stderr"] == "cannot start: no licence"
    assert "connected" not in runner.states()


async def test_an_error_result_at_the_start_is_a_result_error_with_its_fields(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path, fake="refuse_resume") as runner:
            await start(runner, resume="5ac0ffee-0000-4000-8000-000000000000")
            end = await runner.rest()

    error = end["error"]
    assert (error["type"], error["bases"][0]) == ("ResultError", "ProcessError")
    assert error["errors"] == ["No conversation found with session ID: x"]
    assert (error["subtype"], error["exit_code"]) == ("error_during_execution", 1)
    assert error["data"]["session_id"] == "s"


@pytest.mark.parametrize("fake", ["truncate", "no_result"])
async def test_a_stream_that_ends_without_a_result_is_an_incomplete_turn(tmp_path: Path, fake: str) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path, fake=fake) as runner:
            await start(runner)
            end = await runner.rest()

    assert end["error"]["type"] == "IncompleteTurnError"
    assert end["error"]["exit_code"] == 0


async def test_a_cli_that_leaves_between_turns_with_0_ends_the_agent_without_an_error(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path, fake="leave_when_idle") as runner:
            await start(runner)
            end = await runner.rest()

    assert end["error"] is None
    assert runner.states()[-1] == "idle"


async def test_bytes_that_are_no_utf8_are_a_decode_error_and_end_the_agent(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path, fake="bad_utf8") as runner:
            await start(runner)
            end = await runner.rest()

    error = end["error"]
    assert error["type"] == "CLIJSONDecodeError"
    assert "caf\\xe9" in error["line"]
    assert "utf-8" in error["original_error"]


async def test_a_line_longer_than_the_buffer_is_a_decode_error(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path, fake="long_line") as runner:
            await start(runner, max_buffer_size=1_000_000)
            end = await runner.rest()

    assert end["error"]["type"] == "CLIJSONDecodeError"
    assert "1000000 bytes" in end["error"]["line"]


async def test_a_line_of_20_mb_arrives_whole_when_the_buffer_allows_it(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path, fake="long_line") as runner:
            await start(runner, max_buffer_size=64 << 20)
            message = await runner.until_message("AssistantMessage")
            await runner.send("end")
            end = await runner.rest()

    assert message.content[0].text == "y" * 20_000_000
    assert end["error"] is None


async def test_lines_that_are_no_json_are_skipped(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path, fake="garbage_lines") as runner:
            await start(runner)
            await runner.until("state", state="idle")
            await runner.send("end")
            await runner.rest()

    assert [m.content[0].text for m in runner.messages("AssistantMessage")] == ["after"]


@pytest.mark.parametrize(
    ("fake", "kind"), [("broken_message", "MessageParseError"), ("deep_message", "CodecError")]
)
async def test_one_message_that_cannot_be_read_is_told_and_the_turn_goes_on(
    tmp_path: Path, fake: str, kind: str
) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path, fake=fake) as runner:
            await start(runner)
            fault = await runner.until("fault")
            await runner.until("state", state="idle")
            await runner.send("end")
            end = await runner.rest()

    assert fault["error"]["type"] == kind
    assert len(runner.messages("ResultMessage")) == 1
    assert end["error"] is None


async def test_a_cli_that_is_not_there_is_a_not_found_error(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path) as runner:
            await runner.connect(cli_path="/no/such/claude")
            end = await runner.rest()

    assert end["error"]["type"] == "CLINotFoundError"
    assert "/no/such/claude" in end["error"]["message"]


async def test_a_child_that_holds_the_dead_clis_stdout_does_not_hang_the_agent(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path, fake="orphan_holds_stdout") as runner:
            await start(runner)
            end = await runner.rest()

    assert (end["error"]["type"], end["error"]["exit_code"]) == ("ProcessError", -signal.SIGKILL)
    assert end["error"]["stderr"] == "last words"
    assert not is_alive(int((tmp_path / "record").read_text()))


async def test_the_end_kills_a_cli_and_a_child_that_ignore_everything_else(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path, fake="stubborn") as runner:
            await start(runner)
            await runner.until("state", state="idle")
            pids = [int(pid) for pid in (tmp_path / "record").read_text().split()]
            assert all(map(is_alive, pids))
            await runner.send("end")
            end = await runner.rest()

    assert end["error"] is None
    assert not any(map(is_alive, pids))


@pytest.mark.parametrize("way", ["end", "eof", "sigterm"])
async def test_an_agent_that_is_still_connecting_can_be_ended(tmp_path: Path, way: str) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path, fake="deaf") as runner:
            await start(runner)
            pid = int(await wait_for_file(tmp_path / "record"))
            if way == "end":
                await runner.send("end")
            elif way == "eof":
                await runner.close_input()
            else:
                runner.process.send_signal(signal.SIGTERM)
            end = await runner.rest()

    assert end["error"] is None
    assert not is_alive(pid)


async def test_a_reader_that_stops_stalls_the_cli_and_loses_nothing(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path, fake="flood") as runner:
            await start(runner)
            await runner.until("message")
            stalled_at = int(await wait_for_file(tmp_path / "record"))
            resident = _resident_mib(runner.process.pid)
            await runner.until("state", state="idle")
            await runner.send("end")
            await runner.rest()

    numbers = [m.event["number"] for m in runner.messages("StreamEvent")]
    assert numbers == list(range(20_000))
    # 2 KB each: what the pipes, the SDK's 100 messages and the journal's bound hold, of 40 MB.
    assert stalled_at < 3000
    assert resident < 200


async def test_a_flood_on_stderr_is_bounded_and_what_was_dropped_is_counted(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path, fake="flood_stderr") as runner:
            await start(runner)
            await runner.until("stderr")
            await wait_for_file(tmp_path / "record")
            resident = _resident_mib(runner.process.pid)
            await runner.until("state", state="idle")
            await runner.send("end")
            await runner.rest()

    lines = [event for event in runner.events if event["kind"] == "stderr"]
    dropped = sum(event.get("dropped", 0) for event in lines)
    assert sum(1 for event in lines if event["line"]) + dropped == 50_000
    assert resident < 200


def _resident_mib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024

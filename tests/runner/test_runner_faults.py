"""What the host is told when the CLI misbehaves. A fake CLI does what the real one does not do on demand."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.processes import is_alive
from support.runner_process import RunnerProcess, run_runner, wait_for_file
from support.waiting import until_true

from agenthost.testing import FakeCLI

LIMIT = 60
SESSION = "5ac0ffee-0000-4000-8000-000000000000"
PARTIAL = {"include_partial_messages": True}
LONG_LINE = FakeCLI.partials(1, 20_000_000)
SO_FAR = FakeCLI.text("so far")
LAST_WORDS = ["warming up", "out of cheese: ünïcode \U0001f9c0"]
ASSISTANT = (
    b'{"type":"assistant","message":{"role":"assistant","model":"fake","content":[%s]},"session_id":"s"}\n'
)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """The runner is a process of its own: who talks to it makes no difference."""
    return "asyncio"


async def start(runner: RunnerProcess, directory: Path, cli: FakeCLI, **options: Any) -> None:
    await runner.connect(cli_path=cli.write(directory / "claude"), **options)
    await runner.query("hello")


def said(directory: Path) -> dict[str, Any]:
    """Return what the CLI reported."""
    told: dict[str, Any] = json.loads((directory / "record").read_text())
    return told


async def test_a_cli_that_dies_in_a_turn_is_a_process_error_with_its_exit_code_and_last_words(
    tmp_path: Path,
) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path) as runner:
            await start(
                runner, tmp_path, FakeCLI([SO_FAR, *map(FakeCLI.stderr, LAST_WORDS), FakeCLI.leave(137)])
            )
            end = await runner.rest()

    error = end["error"]
    assert error["type"] == "ProcessError"
    assert error["bases"] == ["ClaudeSDKError", "Exception"]
    assert error["exit_code"] == 137
    assert error["stderr"] == "\n".join(LAST_WORDS)
    assert "out of cheese" in error["message"]
    assert "exit code: 137" in error["message"]
    assert runner.messages("AssistantMessage")[0].content[0].text == "so far"
    lines = [event["line"] for event in runner.events if event["kind"] == "stderr"]
    assert lines == LAST_WORDS


async def test_a_cli_that_is_killed_tells_the_signal_and_what_most_often_sends_it(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path) as runner:
            await start(runner, tmp_path, FakeCLI([SO_FAR, FakeCLI.leave(-signal.SIGKILL)]))
            end = await runner.rest()

    assert (end["error"]["type"], end["error"]["exit_code"]) == ("ProcessError", -signal.SIGKILL)
    assert "killed as the kernel does when memory runs out (exit code: -9)" in end["error"]["message"]


async def test_a_cli_that_dies_before_it_answers_is_a_process_error_with_its_stderr(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path) as runner:
            await start(
                runner,
                tmp_path,
                FakeCLI(at_start=[FakeCLI.stderr("cannot start: no licence"), FakeCLI.leave(3)]),
            )
            end = await runner.rest()

    error = end["error"]
    assert (error["type"], error["exit_code"]) == ("ProcessError", 3)
    assert error["stderr"] == "cannot start: no licence"
    assert "connected" not in runner.states()


async def test_an_error_result_at_the_start_is_a_result_error_with_its_fields(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path) as runner:
            refused = FakeCLI(at_start=[FakeCLI.refuse("No conversation found with session ID: x")])
            await start(runner, tmp_path, refused, resume=SESSION)
            end = await runner.rest()

    error = end["error"]
    assert (error["type"], error["bases"][0]) == ("ResultError", "ProcessError")
    assert error["errors"] == ["No conversation found with session ID: x"]
    assert (error["subtype"], error["exit_code"]) == ("error_during_execution", 1)
    assert error["data"]["session_id"] == SESSION


@pytest.mark.parametrize("last", [FakeCLI.raw(ASSISTANT[:38]), SO_FAR], ids=["half a line", "a message"])
async def test_a_stream_that_ends_without_a_result_is_an_incomplete_turn(tmp_path: Path, last: Any) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path) as runner:
            await start(runner, tmp_path, FakeCLI([last, FakeCLI.leave(0)]))
            end = await runner.rest()

    assert end["error"]["type"] == "IncompleteTurnError"
    assert end["error"]["exit_code"] == 0


async def test_a_cli_that_leaves_between_turns_with_0_ends_the_agent_without_an_error(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path) as runner:
            await start(runner, tmp_path, FakeCLI([FakeCLI.leave(0, after_result=True)]))
            end = await runner.rest()

    assert end["error"] is None
    assert runner.states()[-1] == "idle"


async def test_bytes_that_are_no_utf8_are_a_decode_error_and_end_the_agent(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path) as runner:
            await start(
                runner, tmp_path, FakeCLI([FakeCLI.raw(ASSISTANT % b'{"type":"text","text":"caf\xe9"}')])
            )
            end = await runner.rest()

    error = end["error"]
    assert error["type"] == "CLIJSONDecodeError"
    assert "caf\\xe9" in error["line"]
    assert "utf-8" in error["original_error"]


async def test_a_line_longer_than_the_buffer_is_a_decode_error(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path) as runner:
            await start(runner, tmp_path, FakeCLI([LONG_LINE]), max_buffer_size=1_000_000, **PARTIAL)
            end = await runner.rest()

    assert end["error"]["type"] == "CLIJSONDecodeError"
    assert "1000000 bytes" in end["error"]["line"]


@pytest.mark.full  # test_hosted_faults has one that goes through the runner, too
async def test_a_line_of_20_mb_arrives_whole_when_the_buffer_allows_it(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path) as runner:
            await start(runner, tmp_path, FakeCLI([LONG_LINE]), max_buffer_size=64 << 20, **PARTIAL)
            message = await runner.until_message("StreamEvent")
            await runner.send("end")
            end = await runner.rest()

    assert message.event["delta"]["text"] == "0".ljust(20_000_000, ".").replace("0.", "0 ", 1)
    assert end["error"] is None


async def test_lines_that_are_no_json_are_skipped(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path) as runner:
            await start(
                runner,
                tmp_path,
                FakeCLI([FakeCLI.raw(b"\x00\x01 not json\n[SandboxDebug] hello\n\n"), FakeCLI.text("after")]),
            )
            await runner.until("state", state="idle")
            await runner.send("end")
            await runner.rest()

    assert [m.content[0].text for m in runner.messages("AssistantMessage")] == ["after"]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b'{"type":"assistant","message":{"role":"assistant"}}', "MessageParseError"),
        (
            b'{"type":"system","subtype":"deep","data":%s}' % (b'{"a":' * 700 + b"{}" + b"}" * 700),
            "CodecError",
        ),
    ],
    ids=["broken", "deep"],
)
async def test_one_message_that_cannot_be_read_is_told_and_the_turn_goes_on(
    tmp_path: Path, line: bytes, kind: str
) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path) as runner:
            await start(runner, tmp_path, FakeCLI([FakeCLI.raw(line + b"\n"), FakeCLI.text("after")]))
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
        async with run_runner(tmp_path) as runner:
            child = FakeCLI.spawn("sleep", "1000", holds=True)
            last = [FakeCLI.stderr("last words"), FakeCLI.leave(-signal.SIGKILL)]
            await start(runner, tmp_path, FakeCLI([child, FakeCLI.report(tmp_path / "record"), *last]))
            end = await runner.rest()

    assert (end["error"]["type"], end["error"]["exit_code"]) == ("ProcessError", -signal.SIGKILL)
    assert end["error"]["stderr"] == "last words"
    assert not is_alive(said(tmp_path)["children"][0])


async def test_the_end_kills_a_cli_and_a_child_that_ignore_everything_else(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path) as runner:
            steps = [FakeCLI.spawn("sleep", "1000"), FakeCLI.report(tmp_path / "record")]
            await start(runner, tmp_path, FakeCLI(steps, stubborn=True))
            await runner.until("state", state="idle")
            pids = [said(tmp_path)["pid"], *said(tmp_path)["children"]]
            assert all(map(is_alive, pids))
            await runner.send("end")
            end = await runner.rest()

    assert end["error"] is None
    assert not any(map(is_alive, pids))


@pytest.mark.parametrize("way", ["end", "eof", "sigterm"])
async def test_an_agent_that_is_still_connecting_can_be_ended(tmp_path: Path, way: str) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path) as runner:
            deaf = [FakeCLI.report(tmp_path / "record"), FakeCLI.stall(deaf=True)]
            await start(runner, tmp_path, FakeCLI(at_start=deaf))
            await wait_for_file(tmp_path / "record")
            pid = said(tmp_path)["pid"]
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
        async with run_runner(tmp_path) as runner:
            flood = [FakeCLI.report(tmp_path / "record"), FakeCLI.partials(8_000, 2000)]
            await start(runner, tmp_path, FakeCLI(flood), **PARTIAL)
            await runner.until("message")
            stalled_at = await stands_still(said(tmp_path)["pid"])
            resident = _resident_mib(runner.process.pid)
            await runner.until("state", state="idle")
            await runner.send("end")
            await runner.rest()

    numbers = [int(m.event["delta"]["text"].split()[0]) for m in runner.messages("StreamEvent")]
    assert numbers == list(range(8_000))
    # What the pipes, the SDK's 100 messages and the journal's bound hold, of 16 MB and more.
    assert stalled_at < 6_000_000
    assert resident < 200


async def test_a_flood_on_stderr_is_bounded_and_what_was_dropped_is_counted(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with run_runner(tmp_path) as runner:
            flood = [FakeCLI.stderr("e" * 200, times=50_000), FakeCLI.report(tmp_path / "record")]
            await start(runner, tmp_path, FakeCLI(flood))
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


async def stands_still(pid: int) -> int:
    """Return how many bytes a program has written, once it has written none for a second."""
    seen: list[int] = []

    def written() -> bool:
        seen.append(int(Path(f"/proc/{pid}/io").read_text().partition("wchar: ")[2].split()[0]))
        return len(seen) > 100 and seen[-100] == seen[-1]

    await until_true(written)
    return seen[-1]


def _resident_mib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024

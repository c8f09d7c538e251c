"""The emulator is as bad as Daytona: what its own client meets there."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from agenthost.testing.emulators.daytona import Emulator, emulator

LIMIT = 120


def opened_client(daytona: Emulator) -> Any:
    """Return Daytona's own client, to be opened."""
    import daytona as kit

    options: Any = daytona.options
    return kit.AsyncDaytona(kit.DaytonaConfig(**options))


@pytest.fixture(scope="module")
async def client(daytona: Emulator) -> AsyncIterator[Any]:
    """Give Daytona's own client."""
    async with opened_client(daytona) as opened:
        yield opened


@pytest.fixture(scope="module")
async def sandbox(client: Any, daytona: Emulator) -> AsyncIterator[Any]:
    """Give a sandbox of the client's."""
    del daytona
    made = await client.create()
    yield made
    await made.delete(wait=True)


def new_session() -> str:
    """Return a name that no session of the sandbox has."""
    return f"session-{secrets.token_hex(4)}"


async def start(sandbox: Any, session: str, text: str, **more: Any) -> str:
    """Start a command in a session of its own, and return its id."""
    import daytona as kit

    await sandbox.process.create_session(session)
    request = kit.SessionExecuteRequest(command=text, run_async=True, **more)
    return str((await sandbox.process.execute_session_command(session, request)).cmd_id)


async def followed(sandbox: Any, session: str, command: str) -> tuple[str, str]:
    """Return what following a log to its end brings: stdout and stderr."""
    out: list[str] = []
    err: list[str] = []
    with anyio.fail_after(LIMIT):
        await sandbox.process.get_session_command_logs_async(session, command, out.append, err.append)
    return "".join(out), "".join(err)


async def test_a_followed_log_comes_from_its_beginning_each_time_and_by_whole_lines(sandbox: Any) -> None:
    session = new_session()
    command = await start(sandbox, session, r"printf 'a\0b'; echo err >&2; (exit 3)")
    first = await followed(sandbox, session, command)
    assert first == ("ab\n", "err\n")
    assert await followed(sandbox, session, command) == first
    assert (await sandbox.process.get_session_command(session, command)).exit_code == 3


async def test_a_command_that_ends_its_shell_has_no_exit_code_and_ends_its_session(
    sandbox: Any, daytona: Emulator
) -> None:
    import daytona as kit

    session = new_session()
    command = await start(sandbox, session, "echo before; exit 5")
    inside = daytona.box(sandbox.id).sessions[session].commands[command]
    with anyio.fail_after(LIMIT):
        while not inside.has_ended:
            await inside.changed.wait()
    assert (await sandbox.process.get_session_command(session, command)).exit_code is None
    with pytest.raises(kit.DaytonaSessionEndedError):
        await sandbox.process.execute_session_command(session, kit.SessionExecuteRequest(command="true"))


async def test_input_is_lines_without_an_end_and_is_echoed_unless_that_is_suppressed(sandbox: Any) -> None:
    import daytona as kit

    for quiet, expected in ((False, "one\ngot:one\n"), (True, "got:one\n")):
        session = new_session()
        command = await start(sandbox, session, "read l; echo got:$l", suppress_input_echo=quiet)
        await sandbox.process.send_session_command_input(session, command, "one")
        assert (await followed(sandbox, session, command))[0] == expected
        with anyio.fail_after(LIMIT), pytest.raises(kit.DaytonaCommandAlreadyCompletedError):
            while True:  # its shell ends a moment after its exit code is known
                await sandbox.process.send_session_command_input(session, command, "two")


async def test_a_one_shot_command_has_one_stream_and_reads_its_own_script(sandbox: Any) -> None:
    done = await sandbox.process.exec("echo out; echo err >&2; cat\necho eaten; exit 3")
    assert (done.exit_code, done.result) == (0, "out\nerr\necho eaten; exit 3")


async def test_a_time_limit_loses_the_output_of_a_one_shot_command(sandbox: Any) -> None:
    import daytona as kit

    with pytest.raises(kit.DaytonaProcessExecutionTimeoutError) as caught:
        await sandbox.process.exec("echo lost; sleep 100000", timeout=1)
    assert "lost" not in str(caught.value)


async def test_files_come_back_as_they_were_put(sandbox: Any) -> None:
    data = bytes(range(256)) * 300 + b"\r\n--"
    await sandbox.fs.upload_file(data, "/home/daytona/new/data.bin")
    assert await sandbox.fs.download_file("/home/daytona/new/data.bin") == data
    with pytest.raises(Exception, match="not found"):
        await sandbox.fs.download_file("/home/daytona/nothing")


async def test_a_port_is_closed_without_the_token_of_its_sandbox(sandbox: Any) -> None:
    link = await sandbox.get_preview_link(8080)
    async with httpx.AsyncClient() as http:
        for headers, status in (
            ({}, 401),
            ({"x-daytona-preview-token": "guess"}, 401),
            ({"x-daytona-preview-token": link.token}, 502),  # and nothing listens there
        ):
            assert (await http.get(link.url, headers=headers)).status_code == status


async def test_a_busy_sandbox_is_stopped_when_nothing_calls_it_and_requests_count_unless_they_ask_not_to(
    daytona_snapshot: dict[str, Path],
) -> None:
    async with emulator(snapshots=daytona_snapshot) as daytona, opened_client(daytona) as client:
        made = await client.create()
        box = daytona.box(made.id)
        assert box.end_at == box.active_at + 15 * 60
        await start(made, "busy", "sleep 100000")
        link = await made.get_preview_link(8080)
        token = {"x-daytona-preview-token": link.token}
        async with httpx.AsyncClient() as http:
            before = box.active_at
            await http.get(link.url, headers={**token, "X-Daytona-Skip-Last-Activity-Update": "true"})
            assert box.active_at == before
            await http.get(link.url, headers=token)
            assert box.active_at > before
        daytona.clock.advance(15 * 60 + 1)
        with anyio.fail_after(LIMIT):
            await daytona.ended(made.id)


async def test_a_call_and_a_field_that_are_not_known_are_refused_loudly(
    daytona_snapshot: dict[str, Path],
) -> None:
    async with emulator(snapshots=daytona_snapshot) as daytona, httpx.AsyncClient() as http:
        headers = {"authorization": f"Bearer {daytona.options['api_key']}"}
        url = str(daytona.options["api_url"])
        assert (await http.post(f"{url}/volumes", headers=headers, json={})).status_code == 501
        assert daytona.unknown == ["POST /api/volumes"]
        answer = await http.post(f"{url}/sandbox", headers=headers, json={"kvm": True})
        assert (answer.status_code, answer.json()["message"]) == (
            501,
            "this emulator does not know the field kvm",
        )
        assert (await http.get(f"{url}/sandbox")).json() == {
            "statusCode": 401,
            "message": "Invalid credentials",
            "code": "UNAUTHORIZED",
            "source": "DAYTONA_API",
        }

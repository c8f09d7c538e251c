"""Programs begin, are limited and end in the emulator as E2B's daemon tells it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import e2b as vendor
import httpx
import pytest

from agenthost.testing.emulators.e2b import Emulator, connect, emulator

LIMIT = 60


@pytest.fixture(scope="module")
async def sandbox(e2b: Emulator) -> AsyncIterator[vendor.AsyncSandbox]:
    """Give one sandbox for all tests of this file."""
    made = await vendor.AsyncSandbox.create(timeout=600, **e2b.options)
    yield made
    await made.kill()


async def test_the_time_of_a_command_ends_its_stream_with_an_error(
    e2b: Emulator, sandbox: vendor.AsyncSandbox
) -> None:
    with anyio.fail_after(LIMIT), pytest.raises(vendor.TimeoutException):
        await sandbox.commands.run("exec sleep 600", timeout=0.5)
    # As it is on the wire, where the client's own clock has no part.
    process = {"cmd": "/bin/sh", "args": ["-c", "sleep 600 & wait"]}
    headers = {"e2b-sandbox-id": sandbox.sandbox_id, "x-access-token": e2b.box(sandbox.sandbox_id).token}
    headers |= {"content-type": connect.STREAM, "connect-timeout-ms": "300"}
    async with httpx.AsyncClient(trust_env=False, timeout=LIMIT) as client:
        answer = await client.post(
            e2b.options["sandbox_url"] + "/process.Process/Start",
            content=connect.envelope({"process": process}),
            headers=headers,
        )
    assert b'"code": "deadline_exceeded"' in answer.content
    assert b'"end"' not in answer.content


async def test_another_client_of_a_command_whose_time_is_over_hears_that_it_was_killed(
    sandbox: vendor.AsyncSandbox,
) -> None:
    first = await sandbox.commands.run("exec sleep 600", background=True, timeout=1)
    second = await sandbox.commands.connect(first.pid, timeout=0)
    with anyio.fail_after(LIMIT), pytest.raises(vendor.CommandExitException) as caught:
        await second.wait()
    assert (caught.value.exit_code, caught.value.error) == (-1, "signal: killed")
    with pytest.raises(vendor.TimeoutException):
        await first.wait()


@pytest.mark.parametrize("code", [3, 130, 200, 255])
async def test_every_exit_code_arrives_with_the_daemons_words(
    sandbox: vendor.AsyncSandbox, code: int
) -> None:
    with pytest.raises(vendor.CommandExitException) as caught:
        await sandbox.commands.run(f"exit {code}")
    assert (caught.value.exit_code, caught.value.error) == (code, f"exit status {code}")


@pytest.mark.parametrize(("name", "text"), [("KILL", "killed"), ("TERM", "terminated"), ("HUP", "hangup")])
async def test_a_signal_is_no_exit_code(sandbox: vendor.AsyncSandbox, name: str, text: str) -> None:
    with pytest.raises(vendor.CommandExitException) as caught:
        await sandbox.commands.run(f"kill -{name} $$")
    assert (caught.value.exit_code, caught.value.error) == (-1, f"signal: {text}")


async def test_success_has_no_error(sandbox: vendor.AsyncSandbox) -> None:
    done = await sandbox.commands.run("true")
    assert (done.exit_code, done.error) == (0, None)


async def test_a_command_ends_when_nobody_holds_its_output_any_more(sandbox: vendor.AsyncSandbox) -> None:
    command = "(until [ -e go ]; do sleep 0.02; done; echo late) & true"
    handle = await sandbox.commands.run(command, background=True, timeout=0)
    with anyio.fail_after(LIMIT):
        # Longer than the machine below waits for the end of a program's output.
        await sandbox.commands.run(f"while kill -0 {handle.pid} 2>/dev/null; do sleep 0.02; done; sleep 1.5")
        await sandbox.commands.run("touch go")
        assert (await handle.wait()).stdout == "late\n"


async def test_a_program_that_is_not_there_is_an_invalid_argument(
    e2b: Emulator, sandbox: vendor.AsyncSandbox
) -> None:
    del e2b
    with pytest.raises(vendor.InvalidArgumentException):
        await sandbox.commands.run("true", cwd="/no/such/directory")


async def test_the_environment_is_e2bs_and_has_nothing_of_the_machine_below(
    e2b: Emulator, sandbox: vendor.AsyncSandbox
) -> None:
    done = await sandbox.commands.run("tr '\\0' '\\n' < /proc/$$/environ", envs={"GIVEN": "a=b"})
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())
    found.pop("PATH")
    found.pop("LD_LIBRARY_PATH", None)  # only where this machine's Python does not run without it
    assert found == {
        "E2B_SANDBOX": "true",
        "E2B_SANDBOX_ID": sandbox.sandbox_id,
        "E2B_TEMPLATE_ID": e2b.box(sandbox.sandbox_id).template,
        "GIVEN": "a=b",
        "HOME": "/home/user",
        "LOGNAME": "user",
        "SHELL": "/bin/bash",
        "USER": "user",
    }


async def test_what_an_emulator_is_given_is_in_the_environment_of_every_program() -> None:
    async with emulator(env={"OF_THE_EMULATOR": "1"}) as running:
        sandbox = await vendor.AsyncSandbox.create(timeout=60, envs={"OF_THE_BOX": "2"}, **running.options)
        assert (await sandbox.commands.run("echo $OF_THE_EMULATOR $OF_THE_BOX")).stdout == "1 2\n"


@pytest.mark.parametrize("how", ["send", "close", "stream"])
async def test_input_after_the_end_is_not_found(sandbox: vendor.AsyncSandbox, how: str) -> None:
    handle = await sandbox.commands.run("exit 0", background=True, stdin=True, timeout=0)
    await handle.wait()
    with anyio.fail_after(LIMIT), pytest.raises(vendor.NotFoundException):
        if how == "send":
            await sandbox.commands.send_stdin(handle.pid, "text")
        elif how == "close":
            await sandbox.commands.close_stdin(handle.pid)
        else:
            async with sandbox.commands.stream_input(handle.pid, timeout=0) as sending:
                await sending.send("text")

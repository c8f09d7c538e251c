"""Programs by sessions, and the link by a port, where both are as bad as Daytona's."""

from __future__ import annotations

import traceback
from typing import Any

import anyio
import pytest
from daytona._async.process import AsyncProcess

from agenthost.errors import ConfigError, SandboxGoneError
from agenthost.link.client import GuestSandbox
from agenthost.providers.daytona.backend import DaytonaBackend
from agenthost.providers.daytona.carrier import SessionCommand
from agenthost.providers.daytona.provider import DaytonaProvider
from agenthost.testing.emulators.base.faults import Fault
from agenthost.testing.emulators.daytona import Emulator

LIMIT = 120
GUEST = "/home/daytona/.agenthost/guest.pyz"


async def run(provider: DaytonaProvider, box: GuestSandbox, script: str, **env: str) -> SessionCommand:
    """Start a program as a bootstrap is started."""
    vendor = provider.vendor
    handle = await vendor.connect(await vendor.look_up(box.id))
    return await vendor.run(handle, ["bash", "-c", script], env=env)


async def all_of(command: SessionCommand) -> bytes:
    """Return everything that is printed on stdout."""
    found = b""
    while data := await command.receive():
        found += data
    return found


@pytest.mark.parametrize(
    ("script", "stdout", "stderr", "code"),
    [
        ("echo out; echo err >&2; exit 3", b"out\n", b"err\n", 3),
        ("printf 'no newline'", b"no newline", b"", 0),
        ("cat; echo read", b"read\n", b"", 0),
        ("printf 'a\\n\\n'; echo \"$WORDS\"", b"a\n\n$HOME 'x' \"y\"\n", b"", 0),
    ],
    ids=["apart", "no-newline", "no-input", "quoted"],
)
async def test_a_program_is_reported_as_it_was_though_its_session_has_lines_only(
    provider: DaytonaProvider, box: GuestSandbox, script: str, stdout: bytes, stderr: bytes, code: int
) -> None:
    with anyio.fail_after(LIMIT):
        command = await run(provider, box, script, WORDS="$HOME 'x' \"y\"")
        assert await all_of(command) == stdout
        assert await command.wait() == code
        assert command.stderr == stderr
        await command.aclose()


async def test_a_program_that_is_closed_is_ended_with_its_session(
    provider: DaytonaProvider, daytona: Emulator, box: GuestSandbox
) -> None:
    with anyio.fail_after(LIMIT):
        command = await run(provider, box, "echo begun; exec sleep 100000")
        assert await command.receive() == b"begun\n"
        (session,) = daytona.box(box.id).sessions.values()
        (running,) = session.commands.values()
        with pytest.raises(anyio.ClosedResourceError):
            await command.send(b"x")
        await command.aclose()
        await command.aclose()
        assert daytona.box(box.id).sessions == {}
        while not running.has_ended:
            await running.changed.wait()


@pytest.mark.parametrize("status", [429, 502])
async def test_a_look_at_the_output_that_fails_is_repeated(
    provider: DaytonaProvider, daytona: Emulator, box: GuestSandbox, status: int
) -> None:
    with anyio.fail_after(LIMIT):
        command = await run(provider, box, "echo out")
        fault = daytona.faults.refuse(f"GET /toolbox/{box.id}/process/session", status, times=2)
        assert await all_of(command) == b"out\n"
        assert fault.struck.is_set()
        await command.aclose()


async def test_a_program_that_is_refused_leaves_no_secret_in_the_error(
    provider: DaytonaProvider, daytona: Emulator, box: GuestSandbox
) -> None:
    index = "https://user:hunter2@example.com/simple"
    call = f"POST /toolbox/{box.id}/process/session"
    daytona.faults.add(Fault(call, 400, f"not accepted: PIP_INDEX_URL={index}"))
    with pytest.raises(ConfigError) as caught:
        await run(provider, box, "true", PIP_INDEX_URL=index)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


async def test_output_that_daytona_lost_is_an_error_and_not_an_end(
    provider: DaytonaProvider, daytona: Emulator, box: GuestSandbox
) -> None:
    with anyio.fail_after(LIMIT):
        command = await run(provider, box, "sleep 100000")
        await daytona.lose(box.id)
        with pytest.raises(ConnectionResetError, match="output was lost"):
            await command.receive()
        await command.aclose()


async def test_a_token_that_has_changed_is_asked_for_again(daytona: Emulator, box: GuestSandbox) -> None:
    with anyio.fail_after(LIMIT):
        assert (await box.exec(["echo", "before"])).stdout == b"before\n"
        daytona.box(box.id).token = "another-one-after-a-restart"
        assert (await box.exec(["echo", "after"])).stdout == b"after\n"


async def test_a_sandbox_whose_guest_has_gone_is_gone(daytona: Emulator, box: GuestSandbox) -> None:
    with anyio.fail_after(LIMIT):
        machine = await daytona.machine(box.id)
        await machine.sandbox.exec(["pkill", "-9", "-f", "agenthost/guest[.]pyz"])
        with pytest.raises(SandboxGoneError, match="guest of sandbox"):
            await box.exec(["true"])
        assert (await box.info()).state == "running"


async def test_what_stands_in_place_of_the_guest_cannot_flood_the_host(
    daytona: Emulator, box: GuestSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = await daytona.machine(box.id)
    answers: list[Any] = []
    real = AsyncProcess.exec

    async def kept(self: AsyncProcess, *args: Any, **options: Any) -> Any:
        answers.append(await real(self, *args, **options))
        return answers[-1]

    monkeypatch.setattr(AsyncProcess, "exec", kept)
    await machine.sandbox.write_file(GUEST, b"print('the guest does not answer' * 100_000)")
    await machine.sandbox.exec(["pkill", "-9", "-f", "agenthost/guest[.]pyz"])
    with anyio.fail_after(LIMIT), pytest.raises(SandboxGoneError, match="guest of sandbox"):
        await box.exec(["true"])
    assert answers
    assert all(len(answer.result) < 1000 for answer in answers)


async def test_a_port_is_reached_with_the_token_alone(daytona: Emulator, box: GuestSandbox) -> None:
    backend = box.backend
    assert isinstance(backend, DaytonaBackend)
    endpoint = await backend.endpoint(8080)
    assert endpoint.headers == {"x-daytona-preview-token": daytona.box(box.id).token}
    assert endpoint.url.endswith(f"/8080-{box.id}")
    assert daytona.box(box.id).token not in repr(endpoint)

"""A program inside tries to let its sandbox outlive its end: it attacks what ends the sandbox."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator

import anyio
import pytest
from local.sandboxes import open_sandbox
from local.stand_in import StandIn, contents, is_part_of, processes_with, stand_in
from redteam.weakened import with_decisions, without_options

from agenthost.errors import AgentHostError
from agenthost.link.client import GuestSandbox
from agenthost.providers.local.backend import LocalBackend
from agenthost.providers.local.provider import LocalProvider

# Writes a byte of process 1's own over itself: what can do this can put a loop there.
WRITE_MEMORY = """
import sys
with open("/proc/1/maps") as file:
    start = int(file.readline().split("-")[0], 16)
with open("/proc/1/mem", "r+b", buffering=0) as memory:
    memory.seek(start)
    byte = memory.read(1)
    memory.seek(start)
    memory.write(byte)
print("written")
"""

# Whatever of process 1 is open to who may trace it: its environment, its files, its root.
READ_FILES = """
import os
print(len(open("/proc/1/environ", "rb").read()), len(os.listdir("/proc/1/fd")), os.readlink("/proc/1/exe"))
print("read")
"""

# The guest's own timers stand still with it.
STOP_GUEST = """
import os, signal, time
guest = os.getppid()
os.kill(guest, signal.SIGSTOP)
for _ in range(50):
    if open(f"/proc/{guest}/stat").read().rpartition(")")[2].split()[0] == "T":
        print("stopped", flush=True)
        os.kill(guest, signal.SIGCONT)  # only for the sake of this test, to hear from it
        break
    time.sleep(0.002)
"""

KILL_ALL = """
import os, signal
os.kill(-1, signal.SIGKILL)
os.kill(os.getppid(), signal.SIGKILL)
"""

# A guest without a descriptor to spare can neither end what it started nor hear from a host.
TAKE_DESCRIPTORS = """
import os, resource
resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (3, 3))
print("taken")
"""


@pytest.fixture(scope="module")
async def box() -> AsyncIterator[GuestSandbox]:
    """One sandbox for the attacks that leave it as it is."""
    async with open_sandbox(LocalProvider) as (_, sandbox):
        yield sandbox


async def outcome(box: GuestSandbox, program: str) -> str:
    """Run an attack inside; return what it printed, or how it failed."""
    result = await box.exec(["python3", "-I", "-c", program])
    return (result.stdout or result.stderr.strip().rpartition(b"\n")[2]).decode().split()[-1]


async def failure(box: GuestSandbox, program: str) -> str:
    """Run an attack inside; return the exception that it ended with."""
    result = await box.exec(["python3", "-I", "-c", program])
    assert result.exit_code != 0, result.stdout
    return result.stderr.strip().rpartition(b"\n")[2].decode()


@pytest.mark.attack("outlive the end of the sandbox", "write the memory of process 1")
async def test_the_memory_of_process_one_cannot_be_written(box: GuestSandbox) -> None:
    assert "PermissionError" in await failure(box, WRITE_MEMORY)


@pytest.mark.attack("outlive the end of the sandbox", "open the files of process 1")
async def test_the_files_of_process_one_cannot_be_opened(box: GuestSandbox) -> None:
    assert "PermissionError" in await failure(box, READ_FILES)


@pytest.mark.attack("outlive keep_for", "stop the guest by a signal")
async def test_the_guest_cannot_be_stopped(box: GuestSandbox) -> None:
    result = await box.exec(["python3", "-I", "-c", STOP_GUEST])
    assert (result.exit_code, result.stdout) == (0, b"")


@pytest.mark.attack("lose the work of the sandbox", "kill every process inside")
async def test_the_guest_cannot_be_killed(box: GuestSandbox) -> None:
    await box.exec(["python3", "-I", "-c", KILL_ALL])
    assert (await box.exec(["echo", "alive"])).stdout == b"alive\n"


@pytest.mark.attack("outlive keep_for", "lower the limits of the guest")
async def test_the_limits_of_the_guest_cannot_be_lowered(box: GuestSandbox) -> None:
    assert "PermissionError" in await failure(box, TAKE_DESCRIPTORS)


@pytest.mark.control("write the memory of process 1")
@pytest.mark.control("open the files of process 1")
@pytest.mark.control("stop the guest by a signal")
@pytest.mark.control("kill every process inside")
async def test_with_bubblewrap_as_process_one_these_attacks_succeed(monkeypatch: pytest.MonkeyPatch) -> None:
    without_options(monkeypatch, "--as-pid-1")
    async with open_sandbox(LocalProvider) as (_, box):
        assert await outcome(box, WRITE_MEMORY) == "written"
        assert await outcome(box, READ_FILES) == "read"
        assert await outcome(box, STOP_GUEST) == "stopped"
        with pytest.raises(AgentHostError):
            await box.exec(["python3", "-I", "-c", KILL_ALL])
            await box.exec(["true"])


@pytest.mark.control("lower the limits of the guest")
async def test_without_a_look_at_the_arguments_the_limits_can_be_lowered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_decisions(monkeypatch, prlimit="allow")
    async with open_sandbox(LocalProvider) as (_, box):
        assert await outcome(box, TAKE_DESCRIPTORS) == "taken"


def guest_of(sandbox: StandIn) -> int:
    """Return the process of the guest, as the host sees it."""
    inside = [pid for pid in processes_with("stand_in.py") if is_part_of(sandbox, pid)]
    (guest,) = [pid for pid in inside if b"bwrap" not in contents(f"/proc/{pid}/cmdline")]
    return guest


async def stop_guest(sandbox: StandIn) -> None:
    """Leave a guest that does nothing any more, by whatever means that was done."""
    await sandbox.run("")
    os.kill(guest_of(sandbox), signal.SIGSTOP)


@pytest.mark.attack("outlive keep_for", "a guest that does nothing any more")
async def test_a_guest_that_stands_still_does_not_outlive_keep_for() -> None:
    async with stand_in() as sandbox:
        await stop_guest(sandbox)
        await sandbox.backend.keep(-4.9)
        with anyio.fail_after(30):
            words = await sandbox.backend.last_words()
        assert words is not None
        assert words.why == "keep"
        assert not sandbox.directory.exists()


@pytest.mark.control("a guest that does nothing any more")
async def test_where_only_the_guest_keeps_time_it_outlives_keep_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(_backend: LocalBackend, _seconds: float | None) -> None:
        pass

    async with stand_in() as sandbox, stand_in() as other:
        await stop_guest(sandbox)
        await other.backend.keep(-4.9)
        monkeypatch.setattr(LocalBackend, "keep", nothing)
        await sandbox.backend.keep(-4.9)
        with anyio.fail_after(30):
            await other.backend.last_words()
        assert (await sandbox.backend.info()).state == "running"

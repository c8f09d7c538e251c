"""The main program of a machine ends it: with the guest, at the end of its lifetime, and without a host."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

import anyio
import pytest
from support.waiting import until_true

LIMIT = 60  # seconds for what has to happen; nothing waits that long
MAIN = files("agenthost.providers.fly").joinpath("main.sh").read_text()
BEGIN, END = 1_000_000, 1_003_600


class Machine:
    """A directory with the main program, and a clock that only a test moves."""

    def __init__(self, root: Path) -> None:
        self.directory = root / "boot"
        self.programs = root / "programs"
        self.started: list[subprocess.Popen[bytes]] = []
        self.directory.mkdir()
        self.programs.mkdir()
        self._write("date", "cat ${0%/*}/now")
        self._write("sleep", "exec /bin/sleep 0.01")
        self.move_clock(BEGIN)
        (self.directory / "main.sh").write_text(MAIN)

    def _write(self, name: str, script: str) -> None:
        (self.programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.programs / name).chmod(0o755)

    def move_clock(self, to: int) -> None:
        (self.programs / "new").write_text(f"{to}\n")
        (self.programs / "new").rename(self.programs / "now")

    def start(self) -> subprocess.Popen[bytes]:
        argv = ["/bin/sh", str(self.directory / "main.sh"), str(self.directory), str(END)]
        env = {"PATH": f"{self.programs}:{os.environ['PATH']}"}
        self.started.append(subprocess.Popen(argv, env=env, start_new_session=True))
        return self.started[-1]

    def send(self, script: str) -> None:
        """Do what the host does."""
        (self.directory / "run.new").write_text(script)
        (self.directory / "run.new").rename(self.directory / "run.sh")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    for process in made.started:
        with suppress(ProcessLookupError):  # also what the main program has left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def guest() -> Iterator[subprocess.Popen[bytes]]:
    """Give a program that lives until it is ended."""
    with subprocess.Popen(["/bin/sleep", "600"]) as process:
        yield process
        process.kill()


async def ended(process: subprocess.Popen[bytes]) -> int:
    """Return the exit code when a program has ended."""
    with anyio.fail_after(LIMIT):
        await until_true(lambda: process.poll() is not None)
    return process.returncode


async def test_it_ends_when_no_host_sends_what_is_to_be_done(machine: Machine) -> None:
    main = machine.start()
    with anyio.fail_after(LIMIT):
        await until_true((machine.directory / "begun").exists)
    machine.move_clock(BEGIN + 119)
    assert main.poll() is None
    machine.move_clock(BEGIN + 121)
    assert await ended(main) == 1


async def test_it_ends_at_once_where_it_has_begun_before(machine: Machine) -> None:
    (machine.directory / "begun").mkdir()
    assert await ended(machine.start()) == 1


async def test_it_ends_with_the_guest_and_keeps_nothing_that_the_host_has_sent(
    machine: Machine, guest: subprocess.Popen[bytes]
) -> None:
    main = machine.start()
    machine.send(f"echo said; echo {guest.pid} >guest.sock.pid")
    with anyio.fail_after(LIMIT):
        await until_true((machine.directory / "code").exists)
        await until_true(lambda: not (machine.directory / "run.sh").exists())
    assert (machine.directory / "out").read_text() == "said\n"
    assert main.poll() is None
    guest.kill()
    guest.wait()
    assert await ended(main) == 0


async def test_it_waits_for_a_guest_that_says_who_it_is_after_the_start(
    machine: Machine, guest: subprocess.Popen[bytes]
) -> None:
    main = machine.start()
    machine.send("true")
    with anyio.fail_after(LIMIT):
        await until_true((machine.directory / "code").exists)
        await until_true(lambda: not (machine.directory / "run.sh").exists())
    (machine.directory / "guest.new").write_text(f"{guest.pid}\n")
    (machine.directory / "guest.new").rename(machine.directory / "guest.sock.pid")
    assert main.poll() is None
    guest.kill()
    guest.wait()
    assert await ended(main) == 0


async def test_it_ends_when_the_lifetime_is_over_although_the_guest_lives_on(
    machine: Machine, guest: subprocess.Popen[bytes]
) -> None:
    main = machine.start()
    machine.send(f"echo {guest.pid} >guest.sock.pid")
    with anyio.fail_after(LIMIT):
        await until_true((machine.directory / "code").exists)
        await until_true(lambda: not (machine.directory / "run.sh").exists())  # it looks at the guest now
    machine.move_clock(END)
    assert await ended(main) == 1
    assert guest.poll() is None


async def test_it_ends_when_the_lifetime_is_over_although_the_start_hangs(machine: Machine) -> None:
    main = machine.start()
    machine.send("exec /bin/sleep 3")
    with anyio.fail_after(LIMIT):
        await until_true((machine.directory / "err").exists)
    machine.move_clock(END)
    assert await ended(main) == 1


async def test_a_start_that_fails_leaves_its_reason_and_ends(machine: Machine) -> None:
    main = machine.start()
    machine.send("echo no python >&2; exit 3")
    assert await ended(main) == 1
    assert (machine.directory / "code").read_text() == "3\n"
    assert (machine.directory / "err").read_text() == "no python\n"

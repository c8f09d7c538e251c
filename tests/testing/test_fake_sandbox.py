"""A FakeSandbox plays programs, in virtual time, and says what was run."""

from __future__ import annotations

import errno
import math
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import anyio
import pytest
from files.boxes import fill

from agenthost import SandboxSpec
from agenthost.errors import (
    ConfigError,
    ExecTimeoutError,
    SandboxGoneError,
    SandboxStartError,
    UnsupportedError,
)
from agenthost.files import download_dir, exists, list_dir, remove, stat, upload_dir
from agenthost.sandbox import Capabilities, Process, Sandbox, SandboxProvider
from agenthost.spec import NetworkPolicy
from agenthost.testing import FakeClock, FakeProvider, FakeSandbox, ProgramView, Scripted

LIMIT = 20.0  # real seconds until a test is taken to hang
T = TypeVar("T")


async def during(clock: FakeClock, seconds: float, work: Callable[[], Awaitable[T]]) -> T:
    """Return what something returns, or raise what it raises, while so much virtual time passes."""
    found: list[T] = []
    failed: list[Exception] = []

    async def run() -> None:
        try:
            found.append(await work())
        except Exception as error:  # noqa: BLE001 - raised again below
            failed.append(error)

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await clock.advance(seconds)
    if failed:
        raise failed[0]
    return found[0]


def test_it_is_what_the_protocols_say() -> None:
    provider: SandboxProvider = FakeProvider()
    sandbox: Sandbox = FakeSandbox()
    assert (provider.name, sandbox.provider) == ("fake", "fake")


async def test_programs_say_what_was_scripted_and_what_was_run_is_kept() -> None:
    box = FakeSandbox(files={"in.txt": b"hello"})
    box.script(["git", "status"], Scripted(stdout=["clean", b"\xff\n"], stderr="warning", exit_code=3))
    with anyio.fail_after(LIMIT):
        result = await box.exec(["/usr/bin/git", "status", "-s"], env={"A": "b"}, stdin=b"in", cwd="/tmp")
        assert (result.exit_code, result.stdout, result.stderr) == (3, b"clean\xff\n", b"warning")
        with pytest.raises(FileNotFoundError, match="git"):
            await box.exec(["git", "push"])
        assert (await box.exec(["cat", "in.txt"])).stdout == b"hello"
        assert (await box.exec(["cat", "none"])).exit_code == 1
    (run, *_) = box.runs
    assert run.argv == ("/usr/bin/git", "status", "-s")
    assert (run.env, run.cwd, run.stdin, run.stdout, run.stderr) == (
        {"A": "b"},
        "/tmp",
        b"in",
        b"clean\xff\n",
        b"warning",
    )
    assert [run.exit_code for run in box.runs] == [3, 0, 1]


async def test_a_function_is_a_program() -> None:
    async def counting(program: ProgramView) -> int:
        await program.write(b"ready\n")
        line = await program.read_line()
        rest = await program.read_all()
        await program.write(line.upper())
        await program.write_error(b"%d" % len(rest))
        program.files["out"] = rest
        assert program.env["OF"] == "spec"
        return len(program.argv)

    box = FakeSandbox(env={"OF": "spec"})
    box.script(lambda argv: argv[0].startswith("count"), counting)
    with anyio.fail_after(LIMIT):
        async with box.spawn(["counter", "x"]) as process:
            typed: Process = process
            assert await typed.receive_stdout() == b"ready\n"
            await process.send_stdin(b"first\nsec")
            await process.send_stdin(b"ond")
            await process.close_stdin()
            assert await process.receive_stdout() == b"FIRST\n"
            assert await process.wait() == 2
            assert await process.receive_stderr() == b"6"
            assert await process.receive_stderr() == b""
            with pytest.raises(ValueError, match="ended"):
                await process.send_stdin(b"more")
    assert await box.read_file("out") == b"second"


async def test_what_goes_wrong_in_a_function_is_the_tests_to_see() -> None:
    async def broken(_: ProgramView) -> None:
        raise AssertionError("mine")

    box = FakeSandbox()
    box.script("broken", broken)
    with anyio.fail_after(LIMIT):
        with pytest.raises(AssertionError, match="mine"):
            await box.exec(["broken"])
        with pytest.raises(AssertionError, match="mine"):
            async with box.spawn(["broken"]) as process:
                assert await process.wait() == 1
        with pytest.raises(KeyError, match="block"):
            async with box.spawn(["cat"]):
                raise KeyError("block")


async def test_rules_that_are_used_up_make_place_for_those_before() -> None:
    box = FakeSandbox()
    box.script("flaky", Scripted(stdout="works"))
    box.script("flaky", Scripted(exit_code=1), times=2)
    box.script("flaky", PermissionError(errno.EACCES, "Permission denied", "flaky"), times=1)
    with anyio.fail_after(LIMIT):
        with pytest.raises(PermissionError):
            await box.exec(["flaky"])
        assert [(await box.exec(["flaky"])).exit_code for _ in range(3)] == [1, 1, 0]


async def test_a_timeout_is_virtual_and_keeps_what_was_said() -> None:
    box = FakeSandbox()
    box.script("slow", Scripted(stdout=["one", "two", "three"], seconds=10))
    box.script("endless", Scripted(stdout="begun", seconds=math.inf))
    result = await during(box.clock, 40, lambda: box.exec(["slow"], timeout=41))
    assert result.stdout == b"onetwothree"
    with pytest.raises(ExecTimeoutError, match="25 s") as caught:
        await during(box.clock, 25, lambda: box.exec(["slow"], timeout=25))
    assert caught.value.stdout == b"onetwo"
    with pytest.raises(ExecTimeoutError) as caught:
        await during(box.clock, 1e9, lambda: box.exec(["endless"], timeout=3600))
    assert caught.value.stdout == b"begun"
    assert [run.exit_code for run in box.runs] == [0, 137, 137]
    with pytest.raises(ExecTimeoutError):
        await box.exec(["endless"], timeout=0)
    await during(box.clock, 5, lambda: box.exec(["sleep", "5"]))


async def test_cancelling_ends_a_program() -> None:
    box = FakeSandbox()
    ended: list[str] = []

    async def stays(program: ProgramView) -> None:
        try:
            await program.sleep(math.inf)
        finally:
            ended.append(program.argv[1])

    box.script("stays", stays)
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(box.exec, ["stays", "exec"])
            await box.clock.advance(1)
            tasks.cancel_scope.cancel()
        async with box.spawn(["stays", "left"]):
            await box.clock.advance(1)
        async with box.spawn(["stays", "signalled"]) as process:
            await box.clock.advance(1)
            await process.signal(0)
            await process.signal(signal.SIGTERM)
            assert await process.wait() == 128 + signal.SIGTERM
            await process.signal(signal.SIGTERM)
            with pytest.raises(BrokenPipeError):
                await process.send_stdin(b"x")
    assert ended == ["exec", "left", "signalled"]


async def test_sending_waits_for_a_program_that_does_not_read() -> None:
    async def late(program: ProgramView) -> int:
        await program.sleep(10)
        return len(await program.read_all()) // 1000

    box = FakeSandbox()
    box.script("late", late)

    async def talk() -> tuple[float, int]:
        async with box.spawn(["late"]) as process:
            await process.send_stdin(bytes(100_000))
            sent_at = box.clock.time()
            await process.close_stdin()
            return sent_at, await process.wait()

    begun = box.clock.time()
    assert await during(box.clock, 11, talk) == (begun + 10, 100)


async def test_a_sandbox_ends_with_its_lifetime_whatever_runs() -> None:
    async with FakeProvider() as provider:
        sandbox = await provider.create(SandboxSpec(max_lifetime=60))
        with pytest.raises(SandboxGoneError, match="lifetime"):
            await during(provider.clock, 60, lambda: sandbox.exec(["sleep", "1000"]))
        with pytest.raises(SandboxGoneError):
            await sandbox.read_file("x")
        assert (await sandbox.info()).state == "ended"
        assert [info async for info in provider.list()] == []
        assert provider.sandboxes == [sandbox]
        # The name is free again.
        await provider.create(SandboxSpec(name=sandbox.name))


async def test_a_sandbox_can_go_at_any_moment() -> None:
    box = FakeSandbox()
    with anyio.fail_after(LIMIT), pytest.raises(SandboxGoneError, match="the provider took it"):
        async with box.spawn(["cat"]) as process:
            box.end("the provider took it")
            await process.receive_stdout()


async def test_calls_fail_as_often_as_they_are_told_to() -> None:
    provider = FakeProvider()
    provider.fail("create", SandboxStartError("no capacity"))
    provider.fail("read_file", OSError(errno.EIO, "Input/output error"), times=math.inf)
    with pytest.raises(SandboxStartError, match="no capacity"):
        await provider.create(SandboxSpec())
    box = await provider.create(SandboxSpec())
    box.fail("write_file", OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(OSError, match="No space"):
        await box.write_file("a", b"1")
    await box.write_file("a", b"2")
    for _ in range(3):
        with pytest.raises(OSError, match="Input/output"):
            await box.read_file("a")
    assert box.files == {"/workspace/a": b"2"}
    assert len(provider.specs) == 2


async def test_a_create_takes_as_long_as_it_is_told_to() -> None:
    provider = FakeProvider(create_seconds=30)
    provider.script("hello", Scripted(stdout="of the provider"))
    box = await during(provider.clock, 30, lambda: provider.create(SandboxSpec()))
    assert (await box.exec(["hello"])).stdout == b"of the provider"
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(provider.create, SandboxSpec())
            await provider.clock.advance(1)
            tasks.cancel_scope.cancel()
    assert provider.sandboxes == [box]


async def test_capabilities_decide_what_is_refused() -> None:
    able = Capabilities(isolation="microvm", networks=frozenset({"none"}), lease=True)
    provider = FakeProvider(capabilities=able)
    box = await provider.create(SandboxSpec(network=NetworkPolicy.none(), lease=60))
    assert (await box.info()).isolation == "microvm"
    await provider.clock.advance(60)
    assert box.ended
    with pytest.raises(UnsupportedError, match="open"):
        await provider.create(SandboxSpec(network=NetworkPolicy.open()))


async def test_files_have_the_errors_of_a_system() -> None:
    box = FakeSandbox(files={"/etc/conf": b"c", "a": b"1"})
    await box.write_file("run", b"", mode=0o755)
    assert (box.files.mode("run"), box.files.mode("a")) == (0o755, 0o644)
    for path, error in (
        ("none", FileNotFoundError),
        ("/etc", IsADirectoryError),
        ("a/b", NotADirectoryError),
        ("x" * 256, OSError),
    ):
        with pytest.raises(error) as caught:
            await box.read_file(path)
        assert caught.value.filename == path
    for path, error in (
        ("/etc", IsADirectoryError),
        ("new/", IsADirectoryError),
        ("a/b", NotADirectoryError),
    ):
        with pytest.raises(error) as caught:
            await box.write_file(path, b"")
        assert caught.value.filename == path
    assert sorted(box.files) == ["/etc/conf", "/workspace/a", "/workspace/run"]
    del box.files["a"]
    with pytest.raises(FileNotFoundError, match="sub"):
        await box.exec(["true"], cwd="sub")
    with pytest.raises(UnsupportedError, match="root"):
        await box.exec(["true"], user="root")
    with pytest.raises(OSError, match="Argument list too long"):
        await box.exec(["true", "x" * 200_000])


async def test_a_name_that_is_taken_is_refused() -> None:
    provider = FakeProvider()
    await provider.create(SandboxSpec(name="one"))
    with pytest.raises(ConfigError, match="one"):
        await provider.create(SandboxSpec(name="one"))


async def test_what_is_due_happens_in_its_order() -> None:
    clock = FakeClock(start=100)
    seen: list[tuple[str, float]] = []

    async def sleeper(name: str, *pauses: float) -> None:
        for pause in pauses:
            await clock.sleep(pause)
            seen.append((name, clock.time()))

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sleeper, "a", 5, 5, 0)
            tasks.start_soon(sleeper, "b", 7, 100)
            await clock.advance(20)
            assert seen == [("a", 105), ("b", 107), ("a", 110), ("a", 110)]
            assert clock.time() == 120
            await clock.advance(87)
    assert seen[-1] == ("b", 207)


async def test_directories_travel_into_a_fake_and_out_of_it(tmp_path: Path) -> None:
    source = tmp_path / "source"
    fill(source, "a", "deep/b", "odd\nname", ".env")
    (source / "empty").mkdir()
    (source / "a").chmod(0o755)
    box = FakeSandbox(files={"own": b"1", "/etc/conf": b"2"})
    with anyio.fail_after(LIMIT):
        told = await upload_dir(box, source, "in")
        assert (told.files, told.ignored) == (3, [".env"])
        assert box.files["in/deep/b"] == b"deep/b"
        assert (box.files["own"], box.files["/etc/conf"], box.files.mode("in/a")) == (b"1", b"2", 0o755)
        assert [info.name for info in await list_dir(box, "/workspace/in")] == [
            "a",
            "deep",
            "empty",
            "odd\nname",
        ]
        assert (await stat(box, "/etc/conf")).path == "/etc/conf"
        assert (await download_dir(box, "in", tmp_path / "back")).files == 3
        await remove(box, "in", recursive=True)
        assert not await exists(box, "in")
        for path in ("none", "/none"):
            with pytest.raises(FileNotFoundError) as caught:
                await download_dir(box, path, tmp_path / "none")
            assert caught.value.filename == path
        with pytest.raises(PermissionError):
            await stat(box, "../x")
        box.fail("spawn", SandboxGoneError("away"))
        with pytest.raises(SandboxGoneError, match="away"):
            await upload_dir(box, source, "in")
    assert sorted(box.files) == ["/etc/conf", "/workspace/own"]
    del source
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == ["a", "deep", "empty", "odd\nname"]

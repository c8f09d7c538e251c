"""A sandbox belongs to its keeper: what ends it, what does not, and what is left then."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from local.stand_in import StandIn, contents, is_part_of, process_with, processes_with, stand_in, wait_gone
from support.waiting import until_true

from agenthost.errors import ConfigError, SandboxGoneError, SandboxNotFoundError, SandboxStartError
from agenthost.providers.local.engine import Engine
from agenthost.providers.local.interpreter import host_interpreter
from agenthost.providers.local.keeper import handles
from agenthost.providers.local.start import PACKAGE, PREPARE
from agenthost.spec import SandboxSpec, generate_name

# Leaves its process group, session and parent, as a daemon does.
_DAEMON = """
import subprocess, sys
subprocess.run(["sh", "-c", "setsid sh -c 'sleep 3600; : MARKER' & exec true"])
print(open("/proc/self/status").read().split("NSpid:")[1].split()[0])
"""


def keeper_of(sandbox: StandIn) -> int:
    """Return the keeper's process id."""
    keeper: int = json.loads(contents(sandbox.directory / "state.json"))["keeper"]
    return keeper


async def start_daemon(sandbox: StandIn) -> int:
    """Start a program inside that leaves everything it can; return its process id outside."""
    marker = f"{sandbox.name}-daemon"
    await sandbox.run(_DAEMON.replace("MARKER", marker))
    return await process_with(f"sleep 3600; : {marker}", b"sh\0")


async def test_terminate_ends_daemons_too_and_removes_everything() -> None:
    async with stand_in() as sandbox:
        daemon, keeper = await start_daemon(sandbox), keeper_of(sandbox)
        await sandbox.backend.terminate()
        assert wait_gone(daemon)
        assert wait_gone(keeper)
        assert not sandbox.directory.exists()
        await sandbox.backend.terminate()
        assert (await sandbox.backend.info()).state == "ended"
        with pytest.raises(SandboxGoneError):
            await sandbox.backend.dial()


async def test_two_may_terminate_at_once() -> None:
    async with stand_in() as sandbox:
        await sandbox.run("")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sandbox.backend.terminate)
            tasks.start_soon(sandbox.backend.terminate)
        assert not sandbox.directory.exists()


async def test_the_lifetime_ends_it() -> None:
    async with stand_in(SandboxSpec(max_lifetime=0.5)) as sandbox:
        daemon = await start_daemon(sandbox)
        with anyio.fail_after(30):
            words = await sandbox.backend.last_words()
        assert words is not None
        assert words.why == "lifetime"
        assert wait_gone(daemon)
        assert not sandbox.directory.exists()
        with pytest.raises(SandboxGoneError, match="lifetime"):
            await sandbox.backend.dial()


@pytest.mark.parametrize(("how", "code"), [("exits", 42), ("is killed", 137)])
async def test_the_guests_end_is_the_sandboxes_end(how: str, code: int) -> None:
    async with stand_in() as sandbox:
        daemon = await start_daemon(sandbox)
        if how == "exits":
            await sandbox.run(f"import os\nos._exit({code})")
        else:
            await sandbox.run("")
            inside = [pid for pid in processes_with("stand_in.py") if is_part_of(sandbox, pid)]
            (guest,) = [pid for pid in inside if b"bwrap" not in contents(f"/proc/{pid}/cmdline")]
            os.kill(guest, signal.SIGKILL)
        with anyio.fail_after(30):
            words = await sandbox.backend.last_words()
        assert words is not None
        assert (words.why, words.exit_code, words.set_up) == ("guest", code, True)
        assert wait_gone(daemon)
        assert not sandbox.directory.exists()
        with pytest.raises(SandboxGoneError, match=f"exit code {code}"):
            await sandbox.backend.dial()
        assert f"exit code {code}" in (await sandbox.backend.info()).resources["ended"]


async def test_the_guest_is_asked_before_it_is_killed() -> None:
    async with stand_in() as sandbox:
        carrier = await sandbox.backend.dial()
        program = b"""
import signal, time
def on_term(*_):
    connection.sendall(b"asked")
    os._exit(0)
import os
signal.signal(signal.SIGTERM, on_term)
connection.sendall(b"ready")
time.sleep(3600)
"""
        await carrier.send(b"%d\n%s" % (len(program), program))
        assert await carrier.receive() == b"ready"
        await sandbox.backend.terminate()
        assert await carrier.receive() == b"asked"
        await carrier.aclose()


async def test_a_guest_that_will_not_end_is_killed() -> None:
    async with stand_in() as sandbox:
        carrier = await sandbox.backend.dial()
        program = b"import signal, time\nsignal.signal(15, signal.SIG_IGN)\n"
        program += b"connection.sendall(b'x')\ntime.sleep(3600)"
        await carrier.send(b"%d\n%s" % (len(program), program))
        assert await carrier.receive() == b"x"
        keeper = keeper_of(sandbox)
        with anyio.fail_after(30):
            await sandbox.backend.terminate()
        assert wait_gone(keeper)
        assert not sandbox.directory.exists()
        await carrier.aclose()


async def test_a_killed_keeper_takes_the_sandbox_along_and_list_removes_the_rest() -> None:
    async with stand_in() as sandbox:
        daemon, keeper = await start_daemon(sandbox), keeper_of(sandbox)
        os.kill(keeper, signal.SIGKILL)
        assert wait_gone(keeper)
        assert wait_gone(daemon)
        assert sandbox.directory.exists()
        assert (await sandbox.backend.info()).state == "ended"
        with pytest.raises(SandboxNotFoundError):
            await sandbox.engine.reach(sandbox.name)
        assert sandbox.name not in [info.name async for info in sandbox.engine.list(None)]
        assert not sandbox.directory.exists()


async def test_a_keeper_killed_at_its_very_start_leaves_no_process() -> None:
    for _ in range(5):
        async with stand_in() as sandbox:
            os.kill(keeper_of(sandbox), signal.SIGKILL)
            await sandbox.backend.terminate()
            assert not sandbox.directory.exists()
            assert not [pid for pid in processes_with("stand_in.py") if is_part_of(sandbox, pid)]


async def test_a_keeper_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agenthost.providers.local.ending._KEEPER_SECONDS", 0.2)
    async with stand_in() as sandbox:
        keeper = keeper_of(sandbox)
        os.kill(keeper, signal.SIGSTOP)
        await sandbox.backend.terminate()
        assert wait_gone(keeper)
        assert not sandbox.directory.exists()


async def test_the_keeper_is_alone_in_its_session_and_nobodys_zombie() -> None:
    async with stand_in() as sandbox:
        keeper = keeper_of(sandbox)
        assert os.getsid(keeper) != os.getsid(0)
        parent = contents(f"/proc/{keeper}/stat").rpartition(b")")[2].split()[1]
        assert int(parent) != os.getpid()
    mine = [
        line
        for pid in os.listdir("/proc")
        if pid.isdigit() and (line := _status(pid)) and line[:2] == [b"Z", str(os.getpid()).encode()]
    ]
    assert mine == []


def _status(pid: str) -> list[bytes]:
    try:
        return contents(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    except OSError:
        return []


async def test_a_sandbox_outlives_its_host_and_another_one_finds_it() -> None:
    program = textwrap.dedent(
        """
        import anyio, os, sys
        from local.stand_in import stand_in
        from agenthost.spec import SandboxSpec
        async def main():
            async with stand_in(SandboxSpec(labels={"made-by": "the dead"})) as sandbox:
                await sandbox.run("open('/workspace/note', 'w').write('kept')")
                print(sandbox.name, flush=True)
                os.kill(os.getpid(), 9)
        anyio.run(main)
        """
    )
    source = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(source), *sys.path])}
    with anyio.fail_after(60):
        host = await anyio.run_process([sys.executable, "-c", program], env=environment, check=False)
    assert host.returncode == -9, host.stderr
    name = host.stdout.decode().strip()

    async with stand_in() as mine:
        listed = {info.name: info async for info in mine.engine.list({"made-by": "the dead"})}
        assert list(listed) == [name]
        assert listed[name].state == "running"
        found = await mine.engine.reach(name)
        other = StandIn(found, mine.engine, mine.host, name)
        try:
            assert await other.run("print(open('/workspace/note').read())") == "kept\n"
        finally:
            await found.terminate()
        with pytest.raises(SandboxNotFoundError):
            await mine.engine.reach(name)


async def test_the_labels_and_times_are_listed_newest_first() -> None:
    async with (
        stand_in(SandboxSpec(labels={"a": "1", "b": "2"}, max_lifetime=60)) as older,
        stand_in(SandboxSpec(labels={"a": "1"}, max_lifetime=60)) as newer,
    ):
        listed = [info async for info in newer.engine.list({"a": "1"})]
        assert [info.name for info in listed] == [newer.name, older.name]
        assert [info.name async for info in newer.engine.list({"b": "2"})] == [older.name]
        assert listed[0].created_at is not None
        assert listed[0].expires_at == listed[0].created_at + 60


async def test_a_name_is_taken_once() -> None:
    async with stand_in() as first:
        with pytest.raises(ConfigError, match=first.name):
            async with stand_in(SandboxSpec(name=first.name)):
                pytest.fail("a second sandbox has the same name")
        assert await first.run("print('alive')") == "alive\n"


async def test_a_program_that_fails_tells_what_it_printed() -> None:
    async with stand_in(program=[*_python(), "import sys; sys.exit('the reason')"]) as sandbox:
        await sandbox.backend.last_words()
        with pytest.raises(SandboxGoneError, match=r"exit code 1.*the reason"):
            await sandbox.backend.dial()


async def test_what_it_printed_does_nothing_to_a_terminal() -> None:
    async with stand_in(program=[*_python(), r"import sys; sys.exit('red \033[31m bell \a end')"]) as sandbox:
        await sandbox.backend.last_words()
        with pytest.raises(SandboxGoneError) as caught:
            await sandbox.backend.dial()
    assert "end" in str(caught.value)
    assert not set("\033\a") & set(str(caught.value))


@pytest.mark.parametrize("ignored", [signal.SIGQUIT, signal.SIGCHLD, signal.SIGUSR2])
async def test_signals_that_the_host_ignores_or_blocks_reach_the_inside(ignored: signal.Signals) -> None:
    before = signal.signal(ignored, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
    try:
        async with stand_in() as sandbox:
            said = await sandbox.run("print(open('/proc/self/status').read())")
            keeper = keeper_of(sandbox)
            await sandbox.backend.terminate()
            assert wait_gone(keeper)
    finally:
        signal.signal(ignored, before)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1, signal.SIGTERM})
    fields = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
    assert int(fields["SigBlk"], 16) == 0
    assert not int(fields["SigIgn"], 16) & 1 << (ignored - 1)


def test_handles_work_without_the_functions_of_a_newer_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    monkeypatch.delattr(signal, "pidfd_send_signal")
    child = subprocess.Popen(["sleep", "3600"])
    handle = handles.open_handle(child.pid)
    handles.send(handle, signal.SIGKILL)
    assert child.wait() == -9
    handles.send(handle, signal.SIGKILL)
    os.close(handle)
    with pytest.raises(ProcessLookupError):
        handles.open_handle(child.pid)


async def test_a_program_that_is_missing_is_named() -> None:
    async with stand_in(program=["/no/such/program"]) as sandbox:
        await sandbox.backend.last_words()
        with pytest.raises((SandboxStartError, SandboxGoneError), match="/no/such/program"):
            await sandbox.backend.dial()


async def test_what_the_guest_prints_is_bounded() -> None:
    flood = "import os, signal\nfor _ in range(3000): os.write(1, b'x' * 1023 + b'\\n')\n"
    flood += "os.write(2, b'the end')\nsignal.pause()"
    async with stand_in(program=[*_python(), flood]) as sandbox:
        with anyio.fail_after(20):
            await until_true(lambda: b"the end" in _log(sandbox))
        sizes = [path.stat().st_size for path in _logs(sandbox)]
        assert len(sizes) == 2
        assert all(size <= 256 * 1024 + 64 * 1024 for size in sizes)


def _python() -> list[str]:
    from agenthost.providers.local.interpreter import find_interpreter

    return [find_interpreter().path, "-I", "-S", "-c"]


def _logs(sandbox: StandIn) -> list[Path]:
    return list(sandbox.directory.glob("log*"))


def _log(sandbox: StandIn) -> bytes:
    try:
        return contents(sandbox.directory / "log")
    except FileNotFoundError:
        return b""


@pytest.mark.parametrize("steps", range(8))
async def test_a_cancelled_start_leaves_nothing(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Engine] = []
    original: Callable[..., None] = Engine.__init__

    def remember(engine: Engine, *arguments: object, **named: object) -> None:
        original(engine, *arguments, **named)
        made.append(engine)

    monkeypatch.setattr(Engine, "__init__", remember)
    name = generate_name()

    async def start() -> None:
        async with stand_in(SandboxSpec(name=name)):
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(start)
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    directory = Path(made[0].directory()) / name if made else None
    assert directory is None or not directory.exists()
    assert not processes_with(name)


async def test_the_contents_of_a_hostile_workspace_are_removed() -> None:
    async with stand_in() as sandbox:
        said = await sandbox.run(
            """
import os
os.chdir("/workspace")
for _ in range(3000):
    os.mkdir("d")
    os.chdir("d")
os.chdir("/workspace")
os.mkdir("closed")
os.mkdir("closed/inner")
open("closed/inner/file", "w").close()
os.chmod("closed/inner", 0)
os.chmod("closed", 0)
for name in (b"\\xff\\xfe", b"new\\nline", b"-rf", "\\U0001f600".encode(), b".gone-x"):
    open(name, "w").close()
os.symlink("/", "link")
os.symlink("..", "up")
os.mkfifo("pipe")
os.chmod("/workspace", 0)
os.chmod("/home/agent", 0)
"""
        )
        assert said == ""
        await sandbox.backend.terminate()
        assert not sandbox.directory.exists()


def test_the_keeper_loads_next_to_nothing_before_the_sandbox_runs() -> None:
    program = f"{PREPARE}\nbefore = set(sys.modules)\nimport agenthost.providers.local.keeper.main\n"
    program += "print(*sorted(set(sys.modules) - before))"
    loaded = subprocess.run(
        [host_interpreter(), "-I", "-S", "-c", program, PACKAGE], capture_output=True, check=True, timeout=30
    )
    foreign = {name for name in loaded.stdout.decode().split() if not name.startswith("agenthost")}
    assert foreign <= {
        "__future__",
        "os",
        "os.path",
        "posixpath",
        "genericpath",
        "stat",
        "_stat",
        "_collections_abc",
    }

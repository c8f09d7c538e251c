"""Programs run to their end: ``Sandbox.exec`` through a real guest in a real sandbox."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import anyio
import pytest
from support.inside import end, living
from support.waiting import until

from agenthost.errors import ExecTimeoutError, UnsupportedError
from agenthost.link.client import GuestSandbox
from agenthost.testing import FakeSandbox

SECONDS = 30.0  # until a test is taken to hang
MIB = 1024 * 1024


@pytest.mark.parametrize("code", [0, 1, 42, 126, 127, 255])
async def test_an_exit_code_is_a_result(box: GuestSandbox, code: int) -> None:
    with anyio.fail_after(SECONDS):
        assert (await box.exec(["sh", "-c", f"exit {code}"])).exit_code == code


@pytest.mark.parametrize("signum", [1, 9, 15])
async def test_a_program_that_a_signal_ended_has_128_and_the_signal(box: GuestSandbox, signum: int) -> None:
    with anyio.fail_after(SECONDS):
        assert (await box.exec(["sh", "-c", f"kill -{signum} $$"])).exit_code == 128 + signum


_TRACED = """
import ctypes, os, signal, sys
first = os.getpid()
if "orphan" in sys.argv and os.fork() == 0:
    os.setsid()  # else it goes with its parent's group
    os.close(1), os.close(2)
    while os.getppid() == first:
        os.sched_yield()
elif "orphan" in sys.argv:
    os._exit(0)
assert ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0
signal.raise_signal(signal.SIGUSR1)
"""


@pytest.mark.parametrize(("kind", "code"), [("child", 128 + 9), ("orphan", 0)])
async def test_a_program_that_has_the_guest_trace_it_is_killed_when_it_stops(
    box: GuestSandbox, kind: str, code: int
) -> None:
    with anyio.fail_after(SECONDS):
        result = await box.exec(["python3", "-c", _TRACED, kind])
        assert result.exit_code == code, result.stderr
        await until(lambda: living(box, kind), lambda left: not left)
        assert (await box.exec(["echo", "the guest is well"])).exit_code == 0


async def test_stdout_and_stderr_are_bytes_and_apart(box: GuestSandbox) -> None:
    program = r"import os; os.write(1, bytes(range(256))); os.write(2, b'\xff\x00'); os.write(1, b'\xe2')"
    with anyio.fail_after(SECONDS):
        result = await box.exec(["python3", "-c", program])
    assert result.stdout == bytes(range(256)) + b"\xe2"
    assert result.stderr == b"\xff\x00"
    assert not result.truncated


async def test_stdin_is_empty_unless_given(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        assert (await box.exec(["cat"])).stdout == b""


@pytest.mark.parametrize("size", [1, 16 * 1024, 16 * 1024 + 1, 5 * MIB + 3])
async def test_stdin_arrives_whole_and_ends(box: GuestSandbox, size: int) -> None:
    data = (b"\x00\xff\n" * (size // 3 + 1))[:size]
    with anyio.fail_after(SECONDS):
        result = await box.exec(["sha256sum"], stdin=data)
    assert result.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()


async def test_a_program_that_does_not_read_all_its_stdin_ends_as_usual(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        result = await box.exec(["head", "-c", "3"], stdin=b"abc" * (2 * MIB))
        assert (result.exit_code, result.stdout) == (0, b"abc")
        closed = await box.exec(["sh", "-c", "exec <&-; echo closed"], stdin=b"x" * (5 * MIB))
    assert closed.stdout == b"closed\n"


async def test_the_hosts_environment_is_not_inherited(
    box: GuestSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_HOST", "secret")
    with anyio.fail_after(SECONDS):
        lines = (await box.exec(["env", "-0"], env={"ADDED": "a\nb=ü"})).stdout.split(b"\0")
    names = {line.split(b"=")[0] for line in lines if line}
    assert "ADDED=a\nb=ü".encode() in lines
    assert b"OF_THE_SANDBOX=yes" in lines
    own = {b"PATH", b"HOME", b"LANG", b"USER", b"PWD", b"LD_LIBRARY_PATH", b"OF_THE_SANDBOX", b"ADDED"}
    assert names <= own | {b"AGENTHOST_PROCESS", b"ASAN_OPTIONS", b"LSAN_OPTIONS"}


async def test_env_of_one_program_is_not_seen_by_the_next(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        await box.exec(["true"], env={"ONLY_ONCE": "1", "OF_THE_SANDBOX": "no"})
        environment = (await box.exec(["env"])).stdout
    assert b"ONLY_ONCE" not in environment
    assert b"OF_THE_SANDBOX=yes" in environment


async def test_cwd_is_the_workdir_or_below_it_or_absolute(box: GuestSandbox) -> None:
    await box.write_file("sub/x", b"")
    with anyio.fail_after(SECONDS):
        for cwd, seen in ((None, box.workdir), ("sub", f"{box.workdir}/sub"), ("/tmp", "/tmp")):
            assert (await box.exec(["pwd", "-P"], cwd=cwd)).stdout.decode() == seen + "\n"


@pytest.mark.parametrize(
    ("cwd", "error"), [("missing", FileNotFoundError), ("/etc/passwd", NotADirectoryError)]
)
async def test_a_cwd_that_is_no_directory_is_an_error_that_names_it(
    box: GuestSandbox, cwd: str, error: type[OSError]
) -> None:
    with anyio.fail_after(SECONDS), pytest.raises(error, match=cwd):
        await box.exec(["true"], cwd=cwd)


async def test_a_program_that_is_not_there_is_file_not_found(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS), pytest.raises(FileNotFoundError) as caught:
        await box.exec(["no-such-program", "x"])
    assert caught.value.errno == errno.ENOENT
    assert caught.value.filename == "no-such-program"


async def test_a_file_that_is_no_program_is_refused_by_the_kernel(box: GuestSandbox) -> None:
    await box.write_file("plain", b"#!/bin/sh\n", mode=0o644)
    await box.write_file("noise", b"\x00\x01\x02", mode=0o755)
    with anyio.fail_after(SECONDS):
        with pytest.raises(PermissionError):
            await box.exec(["./plain"])
        with pytest.raises(OSError, match="format") as caught:
            await box.exec(["./noise"])
    assert caught.value.errno == errno.ENOEXEC


async def test_arguments_arrive_as_they_are(box: GuestSandbox) -> None:
    arguments = [
        "",
        " ",
        "a b",
        "'\"`$(id)\\",
        "line\nline\r\t",
        "🦆 é",
        "*",
        "--",
        "\udcff\udc80",
        "{}[];|&<>!",
    ]
    program = "import os, sys; os.write(1, b'\\0'.join(os.fsencode(a) for a in sys.argv[1:]))"
    with anyio.fail_after(SECONDS):
        result = await box.exec(["python3", "-c", program, *arguments])
    assert result.stdout.split(b"\0") == [a.encode(errors="surrogateescape") for a in arguments]


async def test_an_argument_may_have_128_kib_and_not_a_byte_more(box: GuestSandbox) -> None:
    longest = "x" * (128 * 1024 - 1)
    with anyio.fail_after(SECONDS):
        result = await box.exec(["sh", "-c", 'printf %s "$1" | wc -c', "sh", longest])
        assert int(result.stdout) == len(longest)
        with pytest.raises(OSError, match=r".") as caught:
            await box.exec(["true", longest + "x"])
    assert caught.value.errno == errno.E2BIG


async def test_many_arguments_and_variables_arrive(box: GuestSandbox) -> None:
    arguments = [f"{number:07d}" for number in range(50_000)]
    with anyio.fail_after(SECONDS):
        argv = ["sh", "-c", 'echo $# "${50000}" $LONG', "sh", *arguments]
        result = await box.exec(argv, env={"LONG": "y" * 60_000})
    assert result.stdout == b"50000 0049999 " + b"y" * 60_000 + b"\n"


@pytest.mark.parametrize("argv", [[], "ls -l", ["a\0b"]])
async def test_what_is_no_list_of_arguments_is_refused(box: GuestSandbox, argv: list[str] | str) -> None:
    with pytest.raises(ValueError, match=r"argv|NUL"):
        await box.exec(argv)


@pytest.mark.parametrize("env", [{"A": "a\0b"}, {"A\0": "b"}, {"A=B": "c"}, {"": "d"}])
async def test_an_environment_that_cannot_be_is_refused(box: GuestSandbox, env: Mapping[str, str]) -> None:
    with pytest.raises(ValueError, match=r"env\['A'\] holds a NUL|name env.*NUL|name of a variable in env"):
        await box.exec(["true"], env=env)
    with pytest.raises(ValueError, match="cwd holds a NUL"):
        await box.exec(["true"], cwd="a\0b")


@pytest.mark.parametrize(
    ("argv", "options", "message"),
    [
        (["echo", "a\ud83d"], {}, r"argv\[1\] holds U\+D83D, half of a character"),
        (["echo"], {"env": {"A": "a\udc00"}}, r"env\['A'\] holds U\+DC00"),
        (["echo"], {"env": {"A\ud83d": "a"}}, r"the name env\['A\\ud83d'\] holds U\+D83D"),
        (["echo"], {"cwd": "\ud83d"}, r"cwd holds U\+D83D"),
        (["echo"], {"user": "\ud83d"}, r"user holds U\+D83D"),
    ],
)
async def test_half_of_a_character_is_refused_by_the_arguments_name_before_anything_is_sent(
    box: GuestSandbox, argv: list[str], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        await box.exec(argv, **options)
    with pytest.raises(ValueError, match=message):
        box.spawn(argv, **options)


async def test_bytes_that_are_no_utf_8_reach_a_program_as_python_marks_them(box: GuestSandbox) -> None:
    result = await box.exec(["printf", "%s", "a\udcff"], env={"A": "\udcfe"})
    assert result.stdout == b"a\xff"


@pytest.mark.parametrize(
    ("argv", "options", "message"),
    [
        (["echo", 1], {}, r"argv\[1\] is of type int"),
        (["echo"], {"env": {"A": None}}, r"env\['A'\] is of type NoneType; it must be a string"),
        (["echo"], {"env": {1: "a"}}, r"the name env\[1\] is of type int"),
        (["echo"], {"env": ["A=1"]}, "env is of type list"),
        (["echo"], {"cwd": PurePosixPath("/")}, r"cwd is of type PurePosixPath.*str\(cwd\)"),
        (["echo"], {"user": 0}, "user is of type int"),
        (["echo"], {"stdin": "text"}, r"stdin is of type str; it must be bytes, stdin\.encode\(\)"),
        (["echo"], {"timeout": "1"}, "timeout is of type str; it must be a number"),
        (["echo"], {"max_output": 1.5}, "max_output is of type float; it must be a whole number"),
    ],
)
async def test_a_value_of_another_type_is_refused_by_the_arguments_name(
    box: GuestSandbox, argv: Any, options: dict[str, Any], message: str
) -> None:
    fake = FakeSandbox(name="fake")
    for sandbox in (box, fake):
        with pytest.raises(TypeError, match=message):
            await sandbox.exec(argv, **options)
    assert fake.runs == []


async def test_text_for_the_stdin_of_a_running_program_is_refused(box: GuestSandbox) -> None:
    text: Any = "text"
    async with box.spawn(["cat"]) as process:
        with pytest.raises(TypeError, match="data is of type str"):
            await process.send_stdin(text)
        await process.send_stdin(b"bytes")
        await process.close_stdin()
        assert await process.receive_stdout() == b"bytes"


async def test_another_user_is_refused_where_the_guest_is_not_root(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS), pytest.raises(UnsupportedError, match="root"):
        await box.exec(["true"], user="nobody")


FAMILY = """
import os, subprocess, sys, time
print("begun", flush=True)
sys.stderr.write("told\\n")
subprocess.Popen(["sleep", sys.argv[1]])                           # in the group
subprocess.Popen(["sleep", sys.argv[1]], start_new_session=True)   # has left it
if os.fork() == 0:                                                 # and an orphan that has left it
    subprocess.Popen(["sleep", sys.argv[1]], start_new_session=True)
    os._exit(0)
os.wait()
print("all", flush=True)
time.sleep(1000)
"""


async def test_a_timeout_kills_all_below_and_keeps_what_was_printed(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        with pytest.raises(ExecTimeoutError, match="2 s") as caught:
            await box.exec(["python3", "-c", FAMILY, "71.1"], timeout=2.0)
        assert caught.value.stdout == b"begun\nall\n"
        assert caught.value.stderr == b"told\n"
        assert caught.value.timeout == 2.0
        assert isinstance(caught.value, TimeoutError)
        assert await living(box, "71.1") == []


async def test_cancellation_kills_all_below(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(box.exec, ["python3", "-c", FAMILY, "71.2"])
            await until(lambda: living(box, "71.2"), lambda found: len(found) == 4)
            tasks.cancel_scope.cancel()
        assert await living(box, "71.2") == []


async def test_no_time_at_all_is_a_timeout_and_starts_nothing_that_stays(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        with pytest.raises(ExecTimeoutError):
            await box.exec(["sleep", "71.3"], timeout=0)
        assert await living(box, "71.3") == []


async def test_a_child_that_keeps_stdout_open_does_not_hold_the_result_up(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        result = await box.exec(["sh", "-c", "echo first; setsid sleep 71.4 & exit 3"])
        assert (result.exit_code, result.stdout) == (3, b"first\n")
        chatty = await box.exec(["sh", "-c", "echo 71.4; setsid yes 71.4 & exit 4"], max_output=10)
        assert (chatty.exit_code, chatty.stdout[:5]) == (4, b"71.4\n")
        await end(box, "71.4")


async def test_what_a_program_left_in_the_pipe_is_not_lost(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        result = await box.exec(["sh", "-c", "head -c 1000000 /dev/zero; setsid sleep 71.5 & exit 0"])
        assert len(result.stdout) == 1_000_000
        await end(box, "71.5")


@pytest.mark.parametrize("most", [0, 1, 100_000])
async def test_output_above_the_bound_is_cut_and_the_program_runs_on(box: GuestSandbox, most: int) -> None:
    with anyio.fail_after(SECONDS):
        argv = ["sh", "-c", "head -c 300000 /dev/zero; echo end >&2; exit 5"]
        result = await box.exec(argv, max_output=most)
    assert (result.exit_code, len(result.stdout), result.truncated) == (5, most, True)
    assert result.stderr == b"end\n"[:most]


async def test_exactly_the_bound_is_not_cut(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        result = await box.exec(["printf", "12345"], max_output=5)
    assert (result.stdout, result.truncated) == (b"12345", False)


async def test_a_flood_of_20_mib_arrives_byte_for_byte(box: GuestSandbox) -> None:
    program = "import os, sys\nfor n in range(20): sys.stdout.buffer.write(bytes([n]) * 1048576)"
    with anyio.fail_after(SECONDS):
        result = await box.exec(["python3", "-c", program], max_output=32 * MIB)
    assert result.stdout == b"".join(bytes([n]) * MIB for n in range(20))


async def test_fifty_programs_at_once_keep_their_output_apart(box: GuestSandbox) -> None:
    seen: dict[int, bytes] = {}

    async def one(number: int) -> None:
        result = await box.exec(["sh", "-c", "cat; echo $N"], stdin=b"%d-" % number, env={"N": str(number)})
        seen[number] = result.stdout

    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(one, number)
    assert seen == {number: b"%d-%d\n" % (number, number) for number in range(50)}


async def test_a_program_has_default_signals_and_no_foreign_file(box: GuestSandbox) -> None:
    program = """
import os, signal
print([s.name for s in signal.valid_signals() if isinstance(s, signal.Signals)
       and signal.getsignal(s) is signal.SIG_IGN and s.name not in ("SIGPIPE", "SIGXFSZ")])
print(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
print(sorted(int(f) for f in os.listdir("/proc/self/fd"))[:4], os.getpgid(0) == os.getpid() == os.getsid(0))
"""
    with anyio.fail_after(SECONDS):
        result = await box.exec(["python3", "-c", program])
    assert result.stdout.decode().splitlines() == ["[]", "set()", "[0, 1, 2, 3] True"], result.stderr


async def test_what_a_program_left_in_the_background_runs_on_after_it(box: GuestSandbox) -> None:
    daemon = "setsid sh -c 'echo $$ > daemon; exec sleep 600' >/dev/null 2>&1 </dev/null &"
    with anyio.fail_after(SECONDS):
        script = f"{daemon} while ! [ -s daemon ]; do :; done"
        assert (await box.exec(["sh", "-c", script])).exit_code == 0
        pid = (await box.read_file("daemon")).decode().strip()
        assert (await box.exec(["kill", pid])).exit_code == 0  # it was there

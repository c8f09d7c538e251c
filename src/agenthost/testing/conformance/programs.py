"""Checks of ``exec``: section 1 of the contract."""

from __future__ import annotations

import errno
import os
import random
import secrets
from typing import Any

import anyio
import pytest

from agenthost.errors import ExecTimeoutError, UnsupportedError
from agenthost.sandbox import Sandbox
from agenthost.testing.conformance.clauses import clause
from agenthost.testing.conformance.comparing import check_same
from agenthost.testing.conformance.kit import Conformance

LONGEST_ARGUMENT = 128 * 1024 - 1  # bytes; Linux counts the NUL behind them
# Tells its child's process id, then waits for ever.
FAMILY = "sleep 100000 & echo $! > child; printf partial; printf words >&2; wait"
# Ten seconds: what is killed has gone long before.
_GONE = """
i=0
while kill -0 "$(cat child)" 2>/dev/null; do i=$((i + 1)); [ $i -gt 500 ] && exit 1; sleep 0.02; done
"""


async def wait_until_told(sandbox: Sandbox) -> None:
    """Return when FAMILY has told its child."""
    await sandbox.exec(["sh", "-c", "until [ -s child ]; do sleep 0.02; done"])


async def child_is_gone(sandbox: Sandbox) -> None:
    """Return when the child that FAMILY told of has gone. AssertionError when it lives on."""
    assert (await sandbox.exec(["sh", "-c", _GONE])).exit_code == 0, "a child lives on"


class ProgramChecks(Conformance):
    """What a program is given, and what comes back."""

    @clause("1.1")
    async def test_arguments_arrive_as_they_are(self, sandbox: Sandbox) -> None:
        """Nothing is a shell's to expand."""
        odd = ["a b", "$HOME", "*", "", "x;y", "`id`", "é\u2028", "\n", "-n", "'\"\\"]
        result = await sandbox.exec(["echo", *odd, "end"])
        assert result.stdout == " ".join([*odd, "end"]).encode() + b"\n"

    @clause("1.1")
    async def test_what_no_program_can_be_given_is_refused_by_the_arguments_name(
        self, sandbox: Sandbox
    ) -> None:
        """By ``exec`` and by ``spawn``, before anything is started."""
        for text in ("a\0b", "a\ud83d"):
            odd: tuple[tuple[str, list[str], dict[str, Any]], ...] = (
                ("argv", ["echo", text], {}),
                ("env", ["echo"], {"env": {"A": text}}),
                ("env", ["echo"], {"env": {text: "b"}}),
                ("cwd", ["echo"], {"cwd": text}),
                ("user", ["echo"], {"user": text}),
            )
            for name, argv, options in odd:
                with pytest.raises(ValueError, match=name):
                    await sandbox.exec(argv, **options)
                with pytest.raises(ValueError, match=name):
                    async with sandbox.spawn(argv, **options):
                        pass

    @clause("1.2", needs="system")
    async def test_an_argument_may_be_as_long_as_the_kernel_allows(self, sandbox: Sandbox) -> None:
        """One byte more is the kernel's own error."""
        longest = "x" * LONGEST_ARGUMENT
        result = await sandbox.exec(["printf", "%s", longest])
        check_same(result.stdout, longest.encode())
        with pytest.raises(OSError, match=os.strerror(errno.E2BIG)) as caught:
            await sandbox.exec(["printf", "%s", longest + "x"])
        assert caught.value.errno == errno.E2BIG

    @clause("1.3", needs="system")
    async def test_the_environment_is_what_was_given_and_nothing_of_the_hosts(self, sandbox: Sandbox) -> None:
        """Values are exact."""
        canary = secrets.token_hex(8)
        os.environ["AGENTHOST_CONFORMANCE"] = canary
        try:
            given = {"ODD": "a=b\nc ü'\"", "EMPTY": ""}
            result = await sandbox.exec(["env", "-0"], env=given)
        finally:
            del os.environ["AGENTHOST_CONFORMANCE"]
        seen = dict(line.split("=", 1) for line in result.stdout.decode().split("\0") if line)
        assert {name: seen.get(name) for name in given} == given
        assert seen["PATH"]
        assert canary not in result.stdout.decode()
        assert b"ODD=" not in (await sandbox.exec(["env", "-0"])).stdout

    @clause("1.4")
    async def test_stdin_is_what_was_given_and_then_its_end(self, sandbox: Sandbox) -> None:
        """Without any it ends at once: nothing waits for the host's."""
        assert (await sandbox.exec(["cat"])).stdout == b""
        data = bytes(range(256)) * 1000
        check_same((await sandbox.exec(["cat"], stdin=data)).stdout, data)

    @clause("1.5", needs="system")
    async def test_stdout_and_stderr_are_bytes_and_apart(self, sandbox: Sandbox) -> None:
        """Whatever they are: they need not be text."""
        program = r"printf '\000\377\303'; printf '\200err' >&2"
        result = await sandbox.exec(["sh", "-c", program])
        assert (result.stdout, result.stderr) == (b"\0\xff\xc3", b"\x80err")
        assert not result.truncated

    @clause("1.6")
    async def test_50_mb_come_back_byte_for_byte(self, sandbox: Sandbox) -> None:
        """In both directions."""
        data = random.Random(1).randbytes(50_000_000)
        result = await sandbox.exec(["cat"], stdin=data, max_output=64 * 1024 * 1024)
        check_same(result.stdout, data)

    @clause("1.7")
    async def test_an_exit_code_is_a_result(self, sandbox: Sandbox) -> None:
        """Not an error."""
        assert (await sandbox.exec(["true"])).exit_code == 0
        assert (await sandbox.exec(["false"])).exit_code == 1

    @clause("1.7", needs="system")
    async def test_the_exit_code_of_a_signal_is_128_and_its_number(self, sandbox: Sandbox) -> None:
        """As a shell says it."""
        assert (await sandbox.exec(["sh", "-c", "exit 77"])).exit_code == 77
        assert (await sandbox.exec(["sh", "-c", "kill -9 $$"])).exit_code == 137

    @clause("1.8")
    async def test_what_is_not_there_cannot_be_started(self, sandbox: Sandbox) -> None:
        """The error is the kernel's."""
        with pytest.raises(FileNotFoundError):
            await sandbox.exec(["agenthost-no-such-program"])

    @clause("1.8", needs="system")
    async def test_what_is_no_program_cannot_be_started(self, sandbox: Sandbox) -> None:
        """The error is the kernel's, for the working directory too."""
        await sandbox.write_file("plain", b"#!/bin/sh\n")
        with pytest.raises(PermissionError):
            await sandbox.exec([f"{sandbox.workdir}/plain"])
        with pytest.raises(FileNotFoundError):
            await sandbox.exec(["true"], cwd="no/such/directory")

    @clause("1.9", needs="system")
    async def test_a_timeout_kills_all_below_and_keeps_what_was_printed(self, sandbox: Sandbox) -> None:
        """Grandchildren too."""
        with pytest.raises(ExecTimeoutError) as caught:
            await sandbox.exec(["sh", "-c", FAMILY], timeout=2)
        assert (caught.value.stdout, caught.value.stderr) == (b"partial", b"words")
        assert isinstance(caught.value, TimeoutError)
        await child_is_gone(sandbox)

    @clause("1.10", needs="system")
    async def test_cancellation_kills_all_below(self, sandbox: Sandbox) -> None:
        """Grandchildren too."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sandbox.exec, ["sh", "-c", FAMILY])
            await wait_until_told(sandbox)
            tasks.cancel_scope.cancel()
        await child_is_gone(sandbox)

    @clause("1.11")
    async def test_output_above_the_bound_is_cut(self, sandbox: Sandbox) -> None:
        """The first bytes are kept, and the program ends as usual."""
        data = random.Random(2).randbytes(300_000)
        result = await sandbox.exec(["cat"], stdin=data, max_output=100_000)
        check_same(result.stdout + result.stderr, data[:100_000])
        assert result.truncated
        assert result.exit_code == 0
        exact = await sandbox.exec(["cat"], stdin=data, max_output=300_000)
        assert (exact.stdout == data, exact.truncated) == (True, False)

    @clause("1.12", needs="system")
    async def test_programs_start_in_the_workdir_or_where_they_are_told(self, sandbox: Sandbox) -> None:
        """A relative ``cwd`` begins at the workdir."""
        await sandbox.write_file("below/file", b"")
        for cwd, expected in (
            (None, sandbox.workdir),
            ("below", f"{sandbox.workdir}/below"),
            ("/", "/"),
        ):
            result = await sandbox.exec(["pwd"], cwd=cwd)
            assert result.stdout.decode() == f"{expected}\n"

    @clause("1.13")
    async def test_many_at_once_keep_their_output_apart(self, sandbox: Sandbox) -> None:
        """Twenty of them."""
        found: dict[int, bytes] = {}

        async def run(number: int) -> None:
            found[number] = (await sandbox.exec(["cat"], stdin=bytes([number]) * 10_000)).stdout

        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(run, number)
        for number in range(20):
            check_same(found[number], bytes([number]) * 10_000)

    @clause("1.14", needs="system")
    async def test_a_child_in_the_background_does_not_hold_the_result_up(self, sandbox: Sandbox) -> None:
        """Though it holds the output open; and it runs on."""
        result = await sandbox.exec(["sh", "-c", "sleep 100000 & echo $! > child; echo done"])
        assert result.stdout == b"done\n"
        look = 'read -r _ _ state _ < "/proc/$(cat child)/stat" && [ "$state" != Z ]'
        assert (await sandbox.exec(["sh", "-c", look])).exit_code == 0, "the child was killed"

    @clause("1.15", needs="system")
    async def test_another_user_is_that_user_or_is_refused(self, sandbox: Sandbox) -> None:
        """Never the one that it would have been anyway."""
        mine = (await sandbox.exec(["id", "-un"])).stdout.decode().strip()
        other = "nobody" if mine == "root" else "root"
        try:
            result = await sandbox.exec(["id", "-un"], user=other, cwd="/")
        except UnsupportedError:
            return
        assert result.stdout.decode().strip() == other

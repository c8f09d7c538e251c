"""Checks of ``read_file`` and ``write_file``: section 3 of the contract."""

from __future__ import annotations

import errno
import random
from pathlib import PurePosixPath
from typing import Any

import anyio
import pytest

from agenthost.sandbox import Sandbox
from agenthost.testing.conformance.clauses import clause
from agenthost.testing.conformance.comparing import check_same
from agenthost.testing.conformance.kit import Conformance

_NAMES = ("two words", "new\nline", "-dash", "quote'\"", "ünï", "$x;*", ".hidden", "x" * 200)


class FileChecks(Conformance):
    """One file at a time, whole."""

    @clause("3.1")
    async def test_bytes_come_back_as_they_were_written(self, sandbox: Sandbox) -> None:
        """Also none at all, and what is no text."""
        for data in (b"", b"\n", b"\r\n", bytes(range(256)), b"\xff" * 70_000):
            await sandbox.write_file("file", data)
            check_same(await sandbox.read_file("file"), data)

    @clause("3.2")
    async def test_50_mb_come_back_as_they_were_written(self, sandbox: Sandbox) -> None:
        """Whole."""
        data = random.Random(3).randbytes(50_000_000)
        await sandbox.write_file("large", data)
        check_same(await sandbox.read_file("large"), data)

    @clause("3.3")
    async def test_parents_are_made(self, sandbox: Sandbox) -> None:
        """As many as it takes."""
        await sandbox.write_file("a/b/c/d", b"deep")
        assert await sandbox.read_file("a/b/c/d") == b"deep"

    @clause("3.4", needs="system")
    async def test_the_mode_is_what_was_asked_for(self, sandbox: Sandbox) -> None:
        """Whatever it was before, and whatever the umask says."""
        await sandbox.write_file("file", b"")
        assert (await sandbox.exec(["stat", "-c", "%a", "file"])).stdout == b"644\n"
        for mode in (0o600, 0o755, 0o666):
            await sandbox.write_file("file", b"", mode=mode)
            assert (await sandbox.exec(["stat", "-c", "%a", "file"])).stdout == f"{mode:o}\n".encode()

    @clause("3.5")
    async def test_what_cannot_be_read_is_the_builtin_error(self, sandbox: Sandbox) -> None:
        """As of ``open`` on the host; it names the path."""
        await sandbox.write_file("directory/file", b"")
        for path, error in (
            ("missing", FileNotFoundError),
            ("directory", IsADirectoryError),
            ("directory/file/below", NotADirectoryError),
        ):
            with pytest.raises(error) as caught:
                await sandbox.read_file(path)
            assert caught.value.filename == path

    @clause("3.6")
    async def test_what_cannot_be_written_is_the_builtin_error_and_names_the_path(
        self, sandbox: Sandbox
    ) -> None:
        """And nothing is changed."""
        await sandbox.write_file("directory/file", b"kept")
        for path, error in (
            ("directory", IsADirectoryError),
            ("directory/file/below", NotADirectoryError),
        ):
            with pytest.raises(error) as caught:
                await sandbox.write_file(path, b"new")
            assert caught.value.filename == path
        assert await sandbox.read_file("directory/file") == b"kept"

    @clause("3.7", needs="system")
    async def test_a_cancelled_write_leaves_a_whole_file_and_no_other(self, sandbox: Sandbox) -> None:
        """The old one or the new one."""
        old, new = b"old", random.Random(4).randbytes(20_000_000)
        await sandbox.write_file("only/file", old)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sandbox.write_file, "only/file", new)
            await sandbox.exec(["true"])  # some of it is on its way
            tasks.cancel_scope.cancel()
        found = await sandbox.read_file("only/file")
        check_same(found, old if len(found) == len(old) else new)
        listed = await sandbox.exec(["sh", "-c", "until [ $(ls -A only | wc -l) = 1 ]; do sleep 0.02; done"])
        assert listed.exit_code == 0

    @clause("3.8")
    async def test_a_relative_path_stays_in_the_workdir(self, sandbox: Sandbox) -> None:
        """An absolute one is what it says."""
        await sandbox.write_file("here", b"1")
        assert await sandbox.read_file(f"{sandbox.workdir}/here") == b"1"
        await sandbox.write_file("/tmp/there", b"2")
        assert await sandbox.read_file("/tmp/there") == b"2"
        with pytest.raises(PermissionError):
            await sandbox.write_file("../out", b"3")
        with pytest.raises(PermissionError):
            await sandbox.read_file("a/../../out")

    @clause("3.9")
    async def test_any_name_is_a_name(self, sandbox: Sandbox) -> None:
        """Only one with NUL or half of a character is not."""
        for name in _NAMES:
            await sandbox.write_file(f"names/{name}", name.encode())
        for name in _NAMES:
            assert await sandbox.read_file(f"names/{name}") == name.encode()
        for name in ("a\0b", "a\ud83d"):
            with pytest.raises(ValueError, match="path"):
                await sandbox.read_file(name)
            with pytest.raises(ValueError, match="path"):
                await sandbox.write_file(name, b"")

    @clause("3.9")
    async def test_a_path_is_a_text(self, sandbox: Sandbox) -> None:
        """What the host takes for a path need not be one inside."""
        path: Any = PurePosixPath("file")
        with pytest.raises(TypeError, match="path"):
            await sandbox.write_file(path, b"")
        with pytest.raises(TypeError, match="path"):
            await sandbox.read_file(path)

    @clause("3.10", needs="system")
    async def test_a_link_is_replaced_and_not_written_through(self, sandbox: Sandbox) -> None:
        """What it led to stays as it was."""
        await sandbox.write_file("target", b"kept")
        await sandbox.exec(["ln", "-s", "target", "link"])
        await sandbox.write_file("link", b"new")
        assert await sandbox.read_file("target") == b"kept"
        assert await sandbox.read_file("link") == b"new"

    @clause("3.11", needs="system")
    async def test_programs_see_the_same_files(self, sandbox: Sandbox) -> None:
        """Both ways, at once."""
        await sandbox.write_file("by-us", b"written")
        assert (await sandbox.exec(["cat", "by-us"])).stdout == b"written"
        await sandbox.exec(["sh", "-c", "printf printed > by-them"])
        assert await sandbox.read_file("by-them") == b"printed"
        await sandbox.exec(["sh", "-c", "printf changed > by-us"])
        assert await sandbox.read_file("by-us") == b"changed"

    @clause("3.12")
    async def test_many_at_once_do_not_mix(self, sandbox: Sandbox) -> None:
        """Twenty of them."""

        async def copy(number: int) -> None:
            data = bytes([number]) * 50_000
            await sandbox.write_file(f"many/{number}", data)
            check_same(await sandbox.read_file(f"many/{number}"), data)

        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(copy, number)

    @clause("3.13")
    async def test_a_file_above_the_bound_is_an_error_that_names_both(self, sandbox: Sandbox) -> None:
        """One of exactly the bound is not."""
        await sandbox.write_file("file", b"12345" * 10_000)
        check_same(await sandbox.read_file("file", max_bytes=50_000), b"12345" * 10_000)
        for bound in (49_999, 0):
            with pytest.raises(OSError, match=rf"\b50000\b.*\b{bound}\b") as caught:
                await sandbox.read_file("file", max_bytes=bound)
            assert caught.value.errno == errno.EFBIG
            assert caught.value.filename == "file"

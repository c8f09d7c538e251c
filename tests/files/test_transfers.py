"""Directories travel into a sandbox and out of it, through nothing but the Sandbox protocol."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from files.archives import packed
from files.boxes import fill, open_box, sh, tree, with_python
from support.lent import Lent

from agenthost import open_provider
from agenthost.errors import ConfigError, DownloadError, SandboxGoneError, UnsupportedError
from agenthost.files import Ignore, TransferLimits, TransferProgress, download_dir, exists, upload_dir
from agenthost.files.program import argv_of
from agenthost.sandbox import Process, Sandbox

LIMIT = 120.0  # seconds until a test is taken to hang
MIB = 1024 * 1024


@pytest.fixture(autouse=True)
async def clean(box: Sandbox) -> AsyncIterator[None]:
    """Have nothing in the sandbox's working directory after a test, and no stage anywhere."""
    yield
    left = await sh(box, "chmod -R u+rwx . && ls -A | grep ^.agenthost- ; find . -mindepth 1 -delete; true")
    assert left == b""


async def test_a_directory_comes_back_as_it_went(box: Sandbox, tmp_path: Path) -> None:
    source = tmp_path / "source"
    fill(source, "a", "deep/er/b", "new\nline", "-rf", " ", "\udcff\udc80", "ü '\"$(id)`")
    (source / "empty").mkdir()
    (source / "run").write_bytes(b"#!/bin/sh\n\xff")
    (source / "run").chmod(0o755)
    (source / "link").symlink_to("deep/er/b")
    (source / "large").write_bytes(os.urandom(3 * MIB + 7))
    os.utime(source / "a", (1_000_000_000, 1_000_000_000))
    steps: list[TransferProgress] = []
    with anyio.fail_after(LIMIT):
        told = await upload_dir(box, source, "in/side", on_progress=steps.append)
        assert (await sh(box, "stat -c '%a %Y' in/side/a in/side/run")).split()[:3] == [
            b"644",
            b"1000000000",
            b"755",
        ]
        back = await download_dir(box, "in/side", tmp_path / "new" / "back", on_progress=steps.append)

    assert tree(tmp_path / "new" / "back") == tree(source)
    assert (tmp_path / "new" / "back" / "a").stat().st_mtime == 1_000_000_000
    assert (told.ignored, told.refused, back.refused) == ([], [], [])
    assert (told.files, told.size) == (back.files, back.size)
    # Both ways the steps grow, and the last one is the whole.
    whole = TransferProgress(len(tree(source)), told.size)
    way_back = steps.index(whole) + 1
    for way in (steps[:way_back], steps[way_back:]):
        assert way == sorted(way, key=lambda step: (step.members, step.size))
        assert way[-1] == whole


async def test_what_is_there_stays_and_what_has_the_same_name_is_replaced(
    box: Sandbox, tmp_path: Path
) -> None:
    fill(tmp_path / "source", "a", "sub/b", "is-dir", "dir/x")
    fill(tmp_path / "back", "own", "sub/own", "is-dir/x", "dir")
    with anyio.fail_after(LIMIT):
        await sh(box, "mkdir -p t/sub t/is-dir; echo old > t/a; echo own | tee t/own t/sub/own t/dir")
        told = await upload_dir(box, tmp_path / "source", "t")
        assert (
            await sh(box, "cd t; cat a sub/b own sub/own; ls -A is-dir; cat dir") == b"asub/bown\nown\nown\n"
        )
        await sh(box, "rm -r t/is-dir t/dir; echo f > t/is-dir; mkdir t/dir; echo f > t/dir/x")
        back = await download_dir(box, "t", tmp_path / "back")

    assert (told.files, sorted(told.refused)) == (2, ["dir", "is-dir"])
    assert (back.files, sorted(back.refused)) == (4, ["dir", "is-dir"])
    assert tree(tmp_path / "back") == {
        b"a": b"a",
        b"own": b"own\n",
        b"sub": None,
        b"sub/b": b"sub/b",
        b"sub/own": b"own\n",
        b"is-dir": None,
        b"is-dir/x": b"is-dir/x",
        b"dir": b"dir",
    }


async def test_secrets_stay_at_home_and_patterns_say_more(box: Sandbox, tmp_path: Path) -> None:
    fill(tmp_path, "a.py", ".env", "key.pem", "a.log", "keep.log", "out/x")
    (tmp_path / ".agenthostignore").write_text("*.log\n!.env\n")
    with anyio.fail_after(LIMIT):
        told = await upload_dir(box, tmp_path, ".", ignore=["!keep.log", "!key.pem", "out/"])
        assert (await sh(box, "ls -A")).split() == [b".agenthostignore", b"a.py", b"keep.log", b"key.pem"]
        assert told.ignored == [".env", "a.log", "out"]
        whole = await upload_dir(box, tmp_path, "whole", ignore=Ignore(("*.log",), defaults=False))
        assert whole.ignored == ["a.log", "keep.log"]
        back = await download_dir(box, "whole", tmp_path / "back", ignore=["*.pem", "out/"])

    assert sorted(os.listdir(tmp_path / "back")) == [".agenthostignore", ".env", "a.py"]
    assert back.refused == []  # it was not even sent


async def test_state_directories_stay_at_home_whatever_they_are_called(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "a", "deep/kept/secret", "sandboxes/secret")
    monkeypatch.setenv("AGENTHOST_STATE_DIR", str(tmp_path / "deep" / "kept"))
    async with open_provider("local-unisolated", state_dir=str(tmp_path / "sandboxes")) as provider:
        assert [info async for info in provider.list()] == []
    with anyio.fail_after(LIMIT):
        told = await upload_dir(box, tmp_path, "in")
    assert sorted(told.ignored) == ["deep/kept", "sandboxes"]


async def test_what_cannot_be_read_or_written_is_the_builtin_error_with_the_path(
    box: Sandbox, tmp_path: Path
) -> None:
    fill(tmp_path, "file", "source/a")
    with anyio.fail_after(LIMIT):
        await sh(box, "echo > file; mkdir open dir; echo > open/closed; ln -s /usr out")
        for source, error in (("missing", FileNotFoundError), ("file", NotADirectoryError)):
            with pytest.raises(error, match=source):
                await upload_dir(box, tmp_path / source, "x")
            with pytest.raises(error, match=source):
                await download_dir(box, source, tmp_path / "x")
        for outside in ("../x", "out/x", "out"):
            with pytest.raises(PermissionError, match=outside):
                await upload_dir(box, tmp_path / "source", outside)
            with pytest.raises(PermissionError, match=outside):
                await download_dir(box, outside, tmp_path / "x")
        for target in ("file", "file/below"):
            with pytest.raises(NotADirectoryError, match=target):
                await upload_dir(box, tmp_path / "source", target)
            with pytest.raises(NotADirectoryError, match=target):
                await download_dir(box, "dir", tmp_path / target)
        if os.geteuid() != 0 or box.provider == "local":  # for root nothing is closed
            await sh(box, "chmod 0 open/closed; echo > open/other")
            with pytest.raises(PermissionError, match="ignore= of the download leaves it out: 'open/closed'"):
                await download_dir(box, "open", tmp_path / "x")
            assert (await download_dir(box, "open", tmp_path / "source", ignore=["closed"])).files == 1
        with pytest.raises(ValueError, match="NUL"):
            await upload_dir(box, tmp_path / "source", "a\0b")
        assert not await exists(box, "x")
    assert sorted(os.listdir(tmp_path)) == ["file", "source"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
async def test_what_the_host_cannot_read_is_named_once_and_what_it_may_not_read_with_a_way_out(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fill(tmp_path / "source", "a", "closed/b")
    opened = os.open

    def closed_to_us(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == "closed":  # root may read whatever its mode is
            raise OSError(number, os.strerror(number), path)
        return opened(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", closed_to_us)
    with anyio.fail_after(LIMIT), pytest.raises(OSError, match="closed") as caught:
        await upload_dir(box, tmp_path / "source", "x")

    assert caught.value.filename == str(tmp_path / "source" / "closed")
    assert "None" not in str(caught.value)
    assert (caught.value.errno, ".agenthostignore" in str(caught.value)) == (number, number == errno.EACCES)
    assert not await exists(box, "x")


async def test_a_line_that_takes_no_secret_back_is_named_once(
    box: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = tmp_path / "source"
    fill(source, "a/.env", "b/.env", ".ssh/known_hosts", "keep.log", "x.log")
    lines = ["*.log", "!keep.log", "", "!.env", "!.ssh/known_hosts", "!not-there"]
    (source / ".agenthostignore").write_text("\n".join(lines))
    with anyio.fail_after(LIMIT), caplog.at_level(logging.WARNING, "agenthost.files"):
        told = await upload_dir(box, source, "t")
    assert told.ignored == [".ssh", "a/.env", "b/.env", "x.log"]
    first, second = caplog.messages
    assert first.startswith(f"{source / '.agenthostignore'}, line 4: '!.env' takes nothing back")
    assert second.startswith(f"{source / '.agenthostignore'}, line 5: '!.ssh/known_hosts' takes nothing back")

    caplog.clear()
    with anyio.fail_after(LIMIT), caplog.at_level(logging.WARNING, "agenthost.files"):
        await upload_dir(box, source, "t", ignore=["!.env", "!.ssh/"])
    assert caplog.messages == []


async def test_more_than_the_limits_is_an_error_and_changes_nothing(box: Sandbox, tmp_path: Path) -> None:
    fill(tmp_path / "source", "a", "b/c")
    with anyio.fail_after(LIMIT):
        await upload_dir(box, tmp_path / "source", "dir")
        for limits, said in (
            (TransferLimits(members=2), "more than 2 files and directories"),
            (TransferLimits(size=3), "more than 3 bytes in all"),
            (TransferLimits(depth=1), "a path of 2 names"),
        ):
            with pytest.raises(ConfigError, match=rf"{said}.* A line in .*/\.agenthostignore leaves"):
                await upload_dir(box, tmp_path / "source", "new", limits=limits)
            with pytest.raises(DownloadError, match=said):
                await download_dir(box, "dir", tmp_path / "new", limits=limits)
        assert (await sh(box, "ls -A")).split() == [b"dir"]
        exactly = TransferLimits(members=3, size=4, depth=2)
        assert (await upload_dir(box, tmp_path / "source", "new", limits=exactly)).files == 2
        assert (await download_dir(box, "dir", tmp_path / "new", limits=exactly)).files == 2
    with pytest.raises(ConfigError, match="depth"):
        TransferLimits(depth=0)


class BrokenOffError(Exception):
    """What a progress function raises."""


@pytest.mark.parametrize("how", ["raise", "cancel"])
@pytest.mark.parametrize("there", [False, True])
async def test_a_transfer_that_is_broken_off_leaves_the_target_as_it_was(
    box: Sandbox, tmp_path: Path, how: str, there: bool
) -> None:
    source = tmp_path / "source"
    fill(source, "a")
    for number in range(4):
        (source / f"large{number}").write_bytes(os.urandom(MIB))
    if there:
        fill(tmp_path / "target", "a/own")
        await sh(box, "mkdir -p new; echo own > new/a")

    def stop(_: TransferProgress) -> None:
        steps.append(_)
        if len(steps) == 3:
            if how == "raise":
                raise BrokenOffError
            scope.cancel()

    with anyio.fail_after(LIMIT):
        for transfer in (
            lambda: upload_dir(box, source, "new", on_progress=stop),
            lambda: download_dir(box, "whole", tmp_path / "target", on_progress=stop),
        ):
            if not await exists(box, "whole"):
                await upload_dir(box, source, "whole")
            steps: list[TransferProgress] = []
            with anyio.CancelScope() as scope:
                if how == "raise":
                    with pytest.raises(BrokenOffError):
                        await transfer()
                else:
                    await transfer()
            assert scope.cancelled_caught == (how == "cancel")
            assert len(steps) == 3
        assert await sh(
            box, "cat new/a || true; ls -A | grep -v whole; ls -A new | grep -v '^a$' || true"
        ) == (b"own\nnew\n" if there else b"")
    assert tree(tmp_path / "target") == ({b"a": None, b"a/own": b"a/own"} if there else {})
    assert sorted(os.listdir(tmp_path)) == (["source", "target"] if there else ["source"])


async def test_a_file_that_becomes_shorter_while_it_is_read_is_an_error(box: Sandbox, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "shrinking").write_bytes(bytes(8 * MIB))

    def shrink(_: TransferProgress) -> None:
        os.truncate(source / "shrinking", MIB)

    with anyio.fail_after(LIMIT), pytest.raises(OSError, match="shorter while it was read") as caught:
        await upload_dir(box, source, "new", on_progress=shrink)
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, str(source / "shrinking"))
    assert not await exists(box, "new")


async def test_a_file_that_grows_while_it_is_read_is_as_long_as_it_was(box: Sandbox, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "growing").write_bytes(b"a" * 2 * MIB)

    def grow(_: TransferProgress) -> None:
        with (source / "growing").open("ab") as file:
            file.write(b"b" * 1000)

    with anyio.fail_after(LIMIT):
        await upload_dir(box, source, "new", on_progress=grow)
        assert (await sh(box, "wc -c < new/growing; tr -d a < new/growing")).split() == [b"%d" % (2 * MIB)]


async def test_a_symlink_in_the_target_inside_is_replaced_and_never_followed(
    box: Sandbox, tmp_path: Path
) -> None:
    fill(tmp_path, "file", "dir/x")
    with anyio.fail_after(LIMIT):
        await sh(
            box,
            "mkdir t outside; echo kept > outside/file; ln -s ../outside/file t/file; ln -s ../outside t/dir",
        )
        told = await upload_dir(box, tmp_path, "t")
        assert await sh(box, "cat outside/file t/file; ls outside") == b"kept\nfilefile\n"
    assert told.refused == ["dir"]


async def test_what_a_sandbox_must_not_send_is_refused_by_name(box: Sandbox, tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        await sh(
            box, "mkdir d; cd d; echo x > a; ln a b; mkfifo pipe; ln -s /etc out; ln -s a in; chmod 6755 a"
        )
        told = await download_dir(box, "d", tmp_path / "back")
    assert told.refused == ["out", "pipe"]
    assert tree(tmp_path / "back") == {b"a": b"x\n", b"b": b"x\n", b"in": b"a"}
    assert (tmp_path / "back" / "a").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize(
    "script",
    [
        "import sys; sys.stdout.buffer.write(bytes(512) * 2); sys.exit(3)",
        "print('x' * 4096)",
        'import sys; sys.stderr.write(\'{"errno": "x"}\'); sys.exit(1)',
        "pass",
    ],
)
async def test_a_program_that_is_not_ours_is_an_error_and_writes_nothing(
    box: Sandbox, tmp_path: Path, script: str
) -> None:
    """The sandbox's python3 is the sandbox's: whatever it does."""
    with anyio.fail_after(LIMIT):
        await box.write_file("python", f"#!/usr/bin/env python3\n{script}\n".encode(), mode=0o755)
        fake = with_python(box, f"{box.workdir}/python")
        with pytest.raises(Exception, match=r"accepted|exit code|errno") as caught:
            await download_dir(fake, ".", tmp_path / "back")
    assert type(caught.value).__module__ == "agenthost.errors"
    assert tree(tmp_path) == {}


async def test_a_sandbox_without_python_is_told_what_it_lacks(box: Sandbox, tmp_path: Path) -> None:
    fill(tmp_path, "a")
    fake = with_python(box, "/no/such/python3")
    with anyio.fail_after(LIMIT):
        for transfer in (
            lambda: upload_dir(fake, tmp_path, "x"),
            lambda: download_dir(fake, ".", tmp_path / "x"),
        ):
            with pytest.raises(UnsupportedError, match="has no python3"):
                await transfer()
        with pytest.raises(UnsupportedError, match="has no python3"):
            await exists(fake, "x")
    assert tree(tmp_path) == {b"a": b"a"}


async def test_an_archive_that_ends_before_it_was_said_to_be_whole_is_not_put_in_place(
    box: Sandbox, tmp_path: Path
) -> None:
    """As when the host dies: the program sees the end of its input, at a moment that looks like any other."""
    fill(tmp_path, "a", "b")
    data, _ = packed(tmp_path)
    head = len(data).to_bytes(4, "big")
    call: dict[str, Any] = {
        "do": "unpack",
        "path": "new",
        "stage": ".agenthost-x",
        "limits": [9, 9, 9],
        "rules": [[], [], []],
    }
    with anyio.fail_after(LIMIT):
        for sent in (b"", head[:2], head, head + data[:1000], head + data, head + data + b"\0\0\0"):
            result = await box.exec(argv_of(box, call), stdin=sent, cwd="/")
            assert (result.exit_code, b"broken off" in result.stderr) == (1, True)
            assert await sh(box, "ls -A") == b""
        assert (await box.exec(argv_of(box, call), stdin=head + data + bytes(4), cwd="/")).exit_code == 0
        assert (await sh(box, "ls new")).split() == [b"a", b"b"]


@pytest.mark.parametrize("provider", ["local", pytest.param("local-unisolated", marks=pytest.mark.full)])
async def test_a_sandbox_that_has_gone_is_told_of_and_leaves_nothing_here(
    tmp_path: Path, provider: str
) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "large").write_bytes(os.urandom(8 * MIB))
    with anyio.fail_after(LIMIT):
        async with open_box(provider) as box, anyio.create_task_group() as tasks:
            await upload_dir(box, tmp_path / "source", "in")

            def end(_: TransferProgress) -> None:
                tasks.start_soon(box.terminate)

            with pytest.raises(SandboxGoneError):
                await download_dir(box, "in", tmp_path / "back", on_progress=end)
            with pytest.raises(SandboxGoneError):
                await upload_dir(box, tmp_path / "source", "more")
            with pytest.raises(SandboxGoneError):
                await exists(box, "in")
    assert sorted(os.listdir(tmp_path)) == ["source"]


async def test_the_source_may_be_reached_by_a_symlink_and_nothing_below_it(
    box: Sandbox, tmp_path: Path
) -> None:
    fill(tmp_path / "real", "a")
    fill(tmp_path / "outside", "secret")
    (tmp_path / "real" / "out").symlink_to(tmp_path / "outside")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with anyio.fail_after(LIMIT):
        told = await upload_dir(box, tmp_path / "link", "t")
        assert (await sh(box, "ls -A t")).split() == [b"a"]
    assert told.ignored == ["out"]


async def test_a_cancellation_in_the_last_step_waits_until_all_is_in_place(
    box: Sandbox, tmp_path: Path
) -> None:
    fill(tmp_path, *(f"d{number}/file" for number in range(50)))
    scope = anyio.CancelScope()

    class Last:
        """Cancels when the end of the archive was sent."""

        def __init__(self, process: Process) -> None:
            self._process = process

        def __getattr__(self, name: str) -> Any:
            return getattr(self._process, name)

        async def send_stdin(self, data: bytes) -> None:
            await self._process.send_stdin(data)
            if data == bytes(4):
                scope.cancel()

    class Cancelling(Lent):
        @asynccontextmanager
        async def spawn(self, argv: Sequence[str], **options: Any) -> AsyncGenerator[Any]:
            async with super().spawn(argv, **options) as process:
                yield Last(process)

    with anyio.fail_after(LIMIT):
        with scope:
            await upload_dir(cast("Any", Cancelling(box)), tmp_path, "in")
        assert scope.cancel_called
        assert (await sh(box, "ls -A; ls in | wc -l")).split() == [b"in", b"50"]

"""One path of a sandbox at a time."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from dataclasses import replace

import anyio
import pytest
from files.boxes import sh

from agenthost.errors import SandboxError
from agenthost.files import FileInfo, exists, list_dir, remove, stat
from agenthost.files.program import fields_of, items_of, raise_failure, read_answer
from agenthost.sandbox import Sandbox

LIMIT = 60.0  # seconds until a test is taken to hang

ODD = ["new\nline", "-rf", " ", "\udcff\udc80", "ü '\"$(id)`"]


@pytest.fixture(autouse=True)
async def clean(box: Sandbox) -> AsyncIterator[None]:
    """Have nothing in the sandbox's working directory after a test."""
    yield
    await sh(box, "chmod -R u+rwx . && find . -mindepth 1 -delete")


async def test_a_path_is_told_of(box: Sandbox) -> None:
    with anyio.fail_after(LIMIT):
        await box.write_file("d/file", b"12345", mode=0o4750)
        await sh(box, "touch -d @1000000000.5 d/file; ln -s file d/link; mkfifo d/pipe; chmod 700 d")
        info = await stat(box, "d/file")
        assert info == FileInfo(path="d/file", kind="file", size=5, mode=0o4750, mtime=1_000_000_000.5)
        assert info.name == "file"
        assert await stat(box, "d/link") == replace(info, path="d/link")
        link = await stat(box, "d/link", follow_symlinks=False)
        assert (link.kind, link.link, link.size) == ("symlink", "file", 4)
        assert (await stat(box, "d/pipe")).kind == "other"
        directory = await stat(box, f"{box.workdir}/d/")
        assert (directory.kind, directory.mode, directory.name) == ("directory", 0o700, "d")
        assert (await stat(box, "/")).name == ""


async def test_a_directory_is_listed_by_name_and_links_as_links(box: Sandbox) -> None:
    with anyio.fail_after(LIMIT):
        for name in ODD:
            await box.write_file(f"d/{name}", b"")
        await sh(box, "mkdir d/sub; ln -s nowhere d/broken; ln -s sub d/link")
        found = await list_dir(box, "d")
        assert [info.name for info in found] == sorted([*ODD, "sub", "broken", "link"])
        assert {info.kind for info in found if info.name in ODD} == {"file"}
        assert {info.name: info.link for info in found if info.kind == "symlink"} == {
            "broken": "nowhere",
            "link": "sub",
        }
        assert all(info.path == f"d/{info.name}" for info in found)
        assert await list_dir(box, "d/sub") == []
        assert [info.path for info in await list_dir(box)] == ["d"]


async def test_what_is_there_and_what_is_not(box: Sandbox) -> None:
    with anyio.fail_after(LIMIT):
        await sh(box, "touch file; ln -s nowhere broken; ln -s file link")
        assert await exists(box, "file")
        assert await exists(box, "link")
        assert not await exists(box, "broken")
        assert await exists(box, "broken", follow_symlinks=False)
        assert not await exists(box, "file/below")
        assert not await exists(box, "nothing")
        assert await exists(box, ".")


async def test_files_links_and_directories_are_removed(box: Sandbox) -> None:
    with anyio.fail_after(LIMIT):
        await sh(
            box,
            "mkdir -p empty full/deep keep; touch file full/deep/x keep/x; ln -s keep link; ln -s . full/l",
        )
        for path in ("file", "link", "empty"):
            await remove(box, path)
        with pytest.raises(OSError, match="full") as caught:
            await remove(box, "full")
        assert caught.value.errno == errno.ENOTEMPTY
        await remove(box, "full", recursive=True)
        for name in ODD:
            await box.write_file(name, b"")
            await remove(box, name)
        await remove(box, "nothing", missing_ok=True)
        with pytest.raises(FileNotFoundError, match="nothing"):
            await remove(box, "nothing")
        assert await sh(box, "find .") == b".\n./keep\n./keep/x\n"


async def test_a_relative_path_does_not_lead_out_of_the_workdir(box: Sandbox) -> None:
    with anyio.fail_after(LIMIT):
        await sh(box, "ln -s / out")
        for path in ("..", "../x", "out/etc", "a/../../x"):
            for ask in (stat, list_dir, remove, exists):
                with pytest.raises(PermissionError, match="working directory") as caught:
                    await ask(box, path)
                assert caught.value.filename == path
        assert await exists(box, f"{box.workdir}/out/etc")
        await remove(box, "out")  # the link itself
        for name, why in (("a\0b", "NUL"), ("a\ud83d", "half of a character")):
            with pytest.raises(ValueError, match=why):
                await stat(box, name)


async def test_what_cannot_be_told_is_the_builtin_error_with_the_path(box: Sandbox) -> None:
    with anyio.fail_after(LIMIT):
        await sh(box, "touch file")
        for ask, path, error in (
            (stat, "nothing", FileNotFoundError),
            (stat, "file/below", NotADirectoryError),
            (list_dir, "nothing", FileNotFoundError),
            (list_dir, "file", NotADirectoryError),
            (remove, "file/below", NotADirectoryError),
            (stat, "x" * 300, OSError),
        ):
            with pytest.raises(error) as caught:
                await ask(box, path)
            assert caught.value.filename == path
        if box.provider == "local":  # elsewhere the tests may be root's, for whom nothing is closed
            await sh(box, "mkdir -p closed/in; chmod 0 closed")
            for ask, path in (
                (list_dir, "closed"),
                (stat, "closed/in"),
                (exists, "closed/in"),
                (remove, "closed/in"),
            ):
                with pytest.raises(PermissionError) as caught:
                    await ask(box, path)
                assert caught.value.filename == path


async def test_an_answer_that_is_none_is_an_error_of_the_sandbox(box: Sandbox) -> None:
    for data in (b"", b"{", b"[" * 100_000):
        with pytest.raises(SandboxError, match="not whole"):
            read_answer(box, data)
    with pytest.raises(SandboxError, match="not whole"):
        read_answer(box, b"{}", whole=False)
    for stderr in (b"", b"\xff\n", b"[" * 100_000, b'{"errno": "2", "text": "x", "path": "y"}'):
        with pytest.raises(SandboxError, match=box.name):
            raise_failure(box, stderr, 1)
    with pytest.raises(SandboxError, match="fields"):
        fields_of([])
    with pytest.raises(SandboxError, match="list"):
        items_of({})

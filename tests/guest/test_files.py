"""Files of a sandbox: ``read_file`` and ``write_file`` through a real guest."""

from __future__ import annotations

import errno
import hashlib
import re
from pathlib import PurePosixPath
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from support.waiting import until

from agenthost.link.client import GuestSandbox
from agenthost.testing import FakeSandbox

SECONDS = 60.0  # until a test is taken to hang
MIB = 1024 * 1024


async def sh(box: GuestSandbox, script: str) -> bytes:
    """Run a script inside that must succeed."""
    result = await box.exec(["sh", "-c", script])
    assert result.exit_code == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("size", [0, 1, 16 * 1024, 16 * 1024 + 1, 32 * 1024, 32 * 1024 + 1, 3 * MIB + 7])
async def test_bytes_come_back_as_they_were_written(box: GuestSandbox, size: int) -> None:
    data = (bytes(range(256)) * (size // 256 + 1))[:size]
    with anyio.fail_after(SECONDS):
        await box.write_file("sizes/file", data)
        assert await box.read_file("sizes/file") == data
        assert (await sh(box, "wc -c < sizes/file")).split() == [str(size).encode()]


async def test_50_mb_come_back_as_they_were_written(box: GuestSandbox) -> None:
    data = hashlib.shake_256(b"large").digest(50_000_000)
    with anyio.fail_after(SECONDS):
        await box.write_file("large", data)
        assert await box.read_file("large") == data
        assert (await sh(box, "sha256sum < large; rm large")).split()[0].decode() == hashlib.sha256(
            data
        ).hexdigest()


@pytest.mark.parametrize("size", [10, 100_000])
@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755, 0o444, 0o4711])
async def test_the_mode_is_what_was_asked_for(box: GuestSandbox, mode: int, size: int) -> None:
    with anyio.fail_after(SECONDS):
        await box.write_file(f"modes/{mode:o}", b"x" * size, mode=mode)
        assert int(await sh(box, f"stat -c %a modes/{mode:o}"), 8) == mode
        await box.write_file(f"modes/{mode:o}", b"y" * size)  # also over one that nobody may write
        assert int(await sh(box, f"stat -c %a modes/{mode:o}"), 8) == 0o644


async def test_parents_are_made(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        await box.write_file("made/of/many/parents", b"1")
        await box.write_file(f"{box.workdir}/made/absolutely/x", b"2")
        assert await sh(box, "cat made/of/many/parents made/absolutely/x; stat -c %a made") == b"12755\n"


@pytest.mark.parametrize(
    "name", ["new\nline", "duck 🦆 é", " ", "'\"$(id)`\\", "-rf", "*", "\udcff\udc80", "x" * 255]
)
async def test_any_name_is_a_name(box: GuestSandbox, name: str) -> None:
    with anyio.fail_after(SECONDS):
        await box.write_file(f"names/{name}", name.encode(errors="surrogateescape"))
        assert await box.read_file(f"names/{name}") == name.encode(errors="surrogateescape")
        listed = await sh(box, "ls -A names | cat; rm -r names")
    assert listed == name.encode(errors="surrogateescape") + b"\n"


async def test_what_cannot_be_read_is_the_builtin_error_and_names_the_path(box: GuestSandbox) -> None:
    await box.write_file("there/plain", b"")
    await box.write_file("there/secret", b"", mode=0)
    with anyio.fail_after(SECONDS):
        for path, error in (
            ("there", IsADirectoryError),
            ("missing", FileNotFoundError),
            ("there/secret", PermissionError),
            ("there/plain/below", NotADirectoryError),
            ("/etc", IsADirectoryError),
            ("/no/such", FileNotFoundError),
            ("x" * 256, OSError),
        ):
            with pytest.raises(error, match=re.escape(path)):
                await box.read_file(path)


@pytest.mark.parametrize("size", [10, 100_000])
async def test_what_cannot_be_written_is_the_builtin_error_and_names_the_path(
    box: GuestSandbox, size: int
) -> None:
    await sh(
        box,
        "mkdir -p there/dir there/closed; touch there/plain; chmod 500 there/closed; ls -A there > before",
    )
    data = b"x" * size
    with anyio.fail_after(SECONDS):
        for path, error in (
            ("there/dir", IsADirectoryError),
            ("there/dir/", IsADirectoryError),
            ("there/none/", IsADirectoryError),
            (".", IsADirectoryError),
            ("there/closed/x", PermissionError),
            ("there/plain/below", NotADirectoryError),
            ("there/plain/below/more", NotADirectoryError),
            ("/usr/x", OSError),
            ("/proc/x", OSError),
            ("x" * 256, OSError),
        ):
            with pytest.raises(error, match=re.escape(path)):
                await box.write_file(path, data)
        assert (
            await sh(
                box, "ls -A there | diff - before; ls -A there/dir there/closed | grep agenthost || true"
            )
            == b""
        )


@pytest.mark.parametrize(
    "path", ["../outside", "a/../../outside", "out/outside", "a/../out/outside", "../workspace-2/x"]
)
async def test_a_relative_path_does_not_lead_out_of_the_workdir(box: GuestSandbox, path: str) -> None:
    await sh(box, "mkdir -p a; ln -sfn /tmp out; echo kept > /tmp/outside")
    with anyio.fail_after(SECONDS):
        with pytest.raises(PermissionError, match="working directory"):
            await box.read_file(path)
        with pytest.raises(PermissionError, match="working directory"):
            await box.write_file(path, b"lost")
        assert await sh(box, "cat /tmp/outside; rm out /tmp/outside") == b"kept\n"


async def test_a_relative_path_may_go_through_links_that_stay_inside(box: GuestSandbox) -> None:
    await sh(box, "mkdir -p real; ln -sfn real inner; ln -sfn ../real/../real real/loop")
    with anyio.fail_after(SECONDS):
        await box.write_file("inner/loop/file", b"1")
        assert await box.read_file("real/file") == b"1"
        assert await box.read_file("inner/../real/file") == b"1"


@pytest.mark.parametrize("size", [10, 100_000])
async def test_a_link_is_replaced_and_not_followed(box: GuestSandbox, size: int) -> None:
    await sh(
        box,
        "echo kept > /tmp/target; ln -sfn /tmp/target link; ln -sfn /tmp/target other; ln -sfn none dangling",
    )
    with anyio.fail_after(SECONDS):
        for path in ("link", f"{box.workdir}/other", "dangling"):
            await box.write_file(path, b"x" * size)
            assert await box.read_file(path) == b"x" * size
        assert (
            await sh(box, "cat /tmp/target; rm /tmp/target; find . -maxdepth 1 -type l -name '[lod]*'")
            == b"kept\n"
        )


async def test_reading_through_a_link_out_of_the_workdir_wants_an_absolute_path(box: GuestSandbox) -> None:
    await sh(box, "echo far > /tmp/far; ln -sfn /tmp/far far")
    with anyio.fail_after(SECONDS):
        with pytest.raises(PermissionError, match="working directory"):
            await box.read_file("far")
        assert await box.read_file(f"{box.workdir}/far") == b"far\n"
        await sh(box, "rm far /tmp/far")


async def test_what_is_no_regular_file_is_refused_and_does_not_hang(box: GuestSandbox) -> None:
    await sh(box, "mkfifo fifo; python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('sock')\"")
    with anyio.fail_after(SECONDS):
        for path in ("fifo", "sock", "/dev/zero"):
            with pytest.raises(OSError, match=path):
                await box.read_file(path)
        await box.write_file("fifo", b"a file now")
        assert await box.read_file("fifo") == b"a file now"
        await sh(box, "rm fifo sock")


async def test_a_file_that_tells_no_size_is_read_to_its_end(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        status = await box.read_file("/proc/self/status")
        assert status.startswith(b"Name:")
        assert status.endswith(b"\n")
        large = await sh(box, "cat /proc/kallsyms | wc -c")
        assert len(await box.read_file("/proc/kallsyms")) == int(large)


@pytest.mark.parametrize(
    ("path", "why"), [("a\0b", "a NUL byte"), ("a\ud83d", r"U\+D83D, half of a character")]
)
async def test_a_path_with_nul_or_half_of_a_character_is_refused(
    box: GuestSandbox, path: str, why: str
) -> None:
    for sandbox in (box, FakeSandbox(name="fake")):
        with pytest.raises(ValueError, match=f"path holds {why}"):
            await sandbox.read_file(path)
        with pytest.raises(ValueError, match=f"path holds {why}"):
            await sandbox.write_file(path, b"")


async def test_what_is_no_path_and_no_bytes_is_refused_by_the_arguments_name(box: GuestSandbox) -> None:
    path: Any = PurePosixPath("file")
    text: Any = "text"
    for sandbox in (box, FakeSandbox(name="fake")):
        with pytest.raises(TypeError, match=r"path is of type PurePosixPath; .* str\(path\)"):
            await sandbox.read_file(path)
        with pytest.raises(TypeError, match="path is of type PurePosixPath"):
            await sandbox.write_file(path, b"")
        with pytest.raises(TypeError, match=r"data is of type str; it must be bytes, data\.encode\(\)"):
            await sandbox.write_file("file", text)
        with pytest.raises(TypeError, match="mode is of type str"):
            await sandbox.write_file("file", b"", mode=text)
        with pytest.raises(FileNotFoundError):
            await sandbox.read_file("file")


async def test_a_full_disk_leaves_the_old_file_whole_and_nothing_else(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        await box.write_file("/tmp/disk/file", b"old")
        with pytest.raises(OSError, match="/tmp/disk/file") as caught:
            await box.write_file("/tmp/disk/file", b"x" * (6 * MIB))  # /tmp has 4
        assert caught.value.errno == errno.ENOSPC
        assert await box.read_file("/tmp/disk/file") == b"old"
        assert await sh(box, "ls -A /tmp/disk; rm -r /tmp/disk") == b"file\n"


async def test_a_file_is_there_as_a_whole_or_not_at_all(box: GuestSandbox) -> None:
    """Whoever looks while it is being replaced sees the old bytes or the new ones."""
    program = """
import sys
seen = set()
print("up", flush=True)
while len(seen) < 3:
    data = open("whole", "rb").read()
    assert len(set(data)) == 1 and len(data) == 2_000_000, len(data)
    seen.add(data[:1])
"""
    with anyio.fail_after(SECONDS):
        await box.write_file("whole", b"0" * 2_000_000)
        async with box.spawn(["python3", "-c", program]) as process:
            assert await process.receive_stdout() == b"up\n"
            async with anyio.create_task_group() as tasks:

                async def rewrite() -> None:
                    while True:
                        for byte in b"123456":
                            await box.write_file("whole", bytes([byte]) * 2_000_000)

                tasks.start_soon(rewrite)
                assert await process.wait() == 0, await process.receive_stderr()
                tasks.cancel_scope.cancel()
        assert await sh(box, "ls -A | grep agenthost || true; rm whole") == b""


async def test_a_file_that_becomes_shorter_while_it_is_read_is_an_error(box: GuestSandbox) -> None:
    program = """
import os
size = 8_000_000
while True:
    with open("shrinking", "wb") as file:
        file.write(bytes(size))
    os.truncate("shrinking", 40_000)
    print(end=".", flush=True)
"""
    errors: list[int | None] = []

    async def read() -> bool:
        try:
            data = await box.read_file("shrinking")
        except FileNotFoundError:
            return False
        except OSError as exc:
            errors.append(exc.errno)
            return True
        assert set(data) <= {0}
        return False

    with anyio.fail_after(SECONDS):
        async with box.spawn(["python3", "-c", program]):
            await until(read, lambda failed: failed)
        await sh(box, "rm shrinking")
    assert errors == [errno.EIO]


async def test_many_files_at_once_do_not_mix(box: GuestSandbox) -> None:
    async def one(number: int) -> None:
        data = bytes([number]) * (number * 5000)
        await box.write_file(f"many/{number}", data)
        assert await box.read_file(f"many/{number}") == data

    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as tasks:
            for number in range(60):
                tasks.start_soon(one, number)
        assert len((await sh(box, "ls -A many; rm -r many")).split()) == 60


@pytest.mark.parametrize("size", [100, 4_000_000])
async def test_a_cancelled_write_leaves_the_old_file_and_no_other(box: GuestSandbox, size: int) -> None:
    with anyio.fail_after(SECONDS):
        await box.write_file("cancelled/file", b"old")
        for _ in range(5):
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(lambda: box.write_file("cancelled/file", b"x" * size))
                    await anyio.lowlevel.checkpoint()
                    await anyio.lowlevel.checkpoint()
                    scope.cancel()
        data = await box.read_file("cancelled/file")
        assert data in (b"old", b"x" * size)
        assert await sh(box, "ls -A cancelled; rm -r cancelled") == b"file\n"

"""Spools on disk: what a program printed and nobody has read yet."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
from guest.plain_guest import plain_guest

from agenthost.guest.spool import DiskSpool, FileSpool

SECONDS = 60.0  # until a test is taken to hang
MIB = 1024 * 1024


@pytest.mark.parametrize("seed", range(20))
def test_what_was_written_is_read_from_any_offset_that_is_kept(tmp_path: Path, seed: int) -> None:
    generator = random.Random(seed)
    spool = DiskSpool(str(tmp_path), memory=1000, segment=5000)
    written = b""
    for _ in range(400):
        action = generator.random()
        if action < 0.6:
            data = generator.randbytes(generator.randrange(0, 900))
            spool.append(data)
            written += data
        elif action < 0.9 and spool.base < spool.end:
            offset = generator.randrange(spool.base, spool.end)
            data = spool.read(offset, generator.randrange(1, 3000))
            assert data
            assert data == written[offset : offset + len(data)]
        elif action < 0.95:
            spool.trim(generator.randrange(0, spool.end + 1))
        assert spool.end == len(written)
    rest, offset = b"", spool.base
    while offset < spool.end:
        rest += spool.read(offset, 10_000)
        offset = spool.base + len(rest)
    assert rest == written[spool.base :]
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_what_lies_below_a_trimmed_offset_goes_from_the_disk(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    spool = DiskSpool(str(tmp_path), memory=1000, segment=5000)
    for _ in range(100):
        spool.append(b"x" * 900)
    assert len(os.listdir("/proc/self/fd")) > before + 10
    spool.trim(90_000)
    assert len(os.listdir("/proc/self/fd")) == before
    assert spool.base == spool.end == 90_000
    spool.append(b"more")
    assert spool.read(90_000, 10) == b"more"
    spool.close()


@contextmanager
def small_files() -> Generator[None]:
    """Let no file grow above 4000 bytes: what a full disk looks like.

    Only around what is tested: the report of the test may go to a file, too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)


def test_what_does_not_fit_is_not_added_and_may_be_added_later(tmp_path: Path) -> None:
    with small_files():
        spool = DiskSpool(str(tmp_path), memory=1000, segment=10_000)
        written = b""
        with pytest.raises(OSError, match="large") as caught:
            for number in range(100):
                data = bytes([number]) * 700
                spool.append(data)
                written += data
        assert caught.value.errno == errno.EFBIG
        assert spool.end == len(written)
        got = b""
        while len(got) < spool.end:
            got += spool.read(len(got), 300)
        assert got == written
        spool.trim(spool.end)
        spool.append(b"y" * 700)
        spool.append(b"z" * 700)
        assert spool.read(len(written), 2000).startswith(b"y" * 700)
        spool.close()


def test_a_file_that_is_shorter_than_it_was_ends_where_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1000)
    spool = FileSpool(os.open(path, os.O_RDONLY), 1000)
    os.truncate(path, 300)
    assert spool.read(0, 500) == b"x" * 300
    assert spool.read(300, 500) == b""
    assert (spool.base, spool.end) == (0, 300)
    spool.close()
    spool.close()
    assert spool.base == spool.end == 300


async def test_a_full_disk_stops_the_program_and_loses_nothing(tmp_path: Path) -> None:
    """No file of the guest may have more than 4 MiB, one for each stream that nobody reads."""
    wrapper = ["sh", "-c", 'ulimit -f 8192; exec "$@"', "sh"]
    program = "import os\nfor n in range(12):\n  os.write(1, bytes([n]) * 1048576); os.write(2, b'.')"
    with anyio.fail_after(SECONDS):
        guest = plain_guest(sys.executable, tmp_path, wrapper=wrapper)
        async with guest as sandbox, sandbox.spawn(["python3", "-c", program]) as process:
            progress = b""
            with anyio.move_on_after(1.0):
                while True:
                    progress += await process.receive_stderr()
            assert 4 <= len(progress) < 12
            assert (await sandbox.exec(["echo", "served"])).stdout == b"served\n"
            parts: list[bytes] = []
            while data := await process.receive_stdout():
                parts.append(data)
            assert b"".join(parts) == b"".join(bytes([n]) * MIB for n in range(12))
            assert await process.wait() == 0

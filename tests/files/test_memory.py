"""A transfer holds a few pieces in memory, however much travels."""

from __future__ import annotations

import tracemalloc
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import anyio
from files.boxes import sh

from agenthost.files import download_dir, upload_dir
from agenthost.files.inside.packing import Packed, pack
from agenthost.files.inside.rules import Rules
from agenthost.files.inside.staging import Stage
from agenthost.files.inside.unpacking import Unpacker
from agenthost.files.values import TransferLimits
from agenthost.sandbox import Sandbox

LIMIT = 240.0  # seconds until a test is taken to hang
MIB = 1024 * 1024


@contextmanager
def at_most(size: int) -> Generator[None]:
    """Fail when the block's own Python objects were ever larger than so many bytes."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < size, f"{peak} bytes"


def large(directory: Path, size: int) -> None:
    """Make a file with a hole, which reads as long as any."""
    directory.mkdir()
    with (directory / "large").open("wb") as file:
        file.truncate(size)


def test_a_gigabyte_is_packed_and_unpacked_in_little_memory(tmp_path: Path) -> None:
    large(tmp_path / "source", 1024 * MIB)
    limits = TransferLimits().inner()
    stage = Stage(str(tmp_path / "target"), ".agenthost-stage")
    unpacker = Unpacker(stage, Rules([], []), limits)
    with at_most(4 * MIB):
        for piece in pack(str(tmp_path / "source"), Rules([], []), limits, Packed(), everything=False):
            unpacker.feed(piece)
        unpacker.finish()
    stage.close()
    assert (tmp_path / "target" / "large").stat().st_size == 1024 * MIB


async def test_the_host_holds_little_of_what_goes_in_and_out(box: Sandbox, tmp_path: Path) -> None:
    large(tmp_path / "source", 128 * MIB)
    with anyio.fail_after(LIMIT):
        with at_most(32 * MIB):
            await upload_dir(box, tmp_path / "source", "in")
        with at_most(32 * MIB):
            await download_dir(box, "in", tmp_path / "back")
        assert (await sh(box, "wc -c < in/large; rm -r in")).split() == [b"%d" % (128 * MIB)]
    assert (tmp_path / "back" / "large").stat().st_size == 128 * MIB

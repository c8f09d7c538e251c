"""Digests of files are made inside, follow no link, wait for nothing, and end at their bounds."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from agenthost.files.inside.digests import digests_below

BOUNDS: list[float] = [100, 1000, 60.0]


def file(data: bytes) -> str:
    return f"file:{hashlib.sha256(data).hexdigest()}"


def test_each_kind_of_file_is_told_apart_and_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_bytes(b"a")
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "above").symlink_to("..")
    os.mkfifo(tmp_path / "pipe")
    found = digests_below(str(tmp_path), BOUNDS)
    links = {
        name: f"link:{hashlib.sha256(to).hexdigest()}"
        for name, to in (("link", b"/etc/passwd"), ("above", b".."))
    }
    assert found == {"files": {"sub/a": file(b"a"), "pipe": "other", **links}, "complete": True}


@pytest.mark.parametrize(
    ("bounds", "files"),
    [
        ([2, 1000, 60.0], {"a": file(b"aaa"), "b": file(b"bbb")}),
        ([100, 7, 60.0], {"a": file(b"aaa"), "b": file(b"bbb"), "c": "unread"}),
        ([100, 1000, -1.0], {}),
    ],
    ids=["files", "bytes", "seconds"],
)
def test_at_a_bound_it_ends_and_says_so(tmp_path: Path, bounds: list[float], files: dict[str, str]) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(name.encode() * 3)
    assert digests_below(str(tmp_path), bounds) == {"files": files, "complete": False}


def test_a_sparse_file_larger_than_the_bound_takes_no_longer(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as opened:
        opened.truncate(1 << 40)
    assert digests_below(str(tmp_path), BOUNDS) == {"files": {"large": "unread"}, "complete": False}


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        digests_below(str(tmp_path / "none"), BOUNDS)

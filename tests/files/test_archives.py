"""Directories become archives and archives directories, and nothing of them lies elsewhere."""

from __future__ import annotations

import gzip
import os
import tarfile
from pathlib import Path

import pytest
from files.archives import archive_of, member, names_of, packed, unpacked
from files.boxes import fill, tree

from agenthost.files import TransferLimits
from agenthost.files.inside.tar import END, MAX_HEADER, Member, RefusedError, header

ODD = [
    "new\nline",
    "-rf",
    " ",
    "ü \"quoted\" '\U0001f40d'",
    "\udcff\udc80",
    "*",
    "x" * 255,
    "back\\slash",
    "a=b",
]


def test_a_directory_comes_back_as_it_was(tmp_path: Path) -> None:
    source = tmp_path / "source"
    fill(source, "a.txt", "deep/er/b.txt", ".git/HEAD", *(f"odd/{name}" for name in ODD))
    (source / "run").write_bytes(b"\xff\x00")
    (source / "run").chmod(0o755)
    (source / "secret").write_bytes(b"")
    (source / "secret").chmod(0o600)
    (source / "empty").mkdir()
    (source / "link").symlink_to("deep/er/b.txt")
    os.link(source / "a.txt", source / "same-as-a.txt")
    os.utime(source / "run", (1_000_000_000.5, 1_000_000_000.5))
    os.utime(source / "deep", (1_000_000_000, 1_000_000_000))
    target = tmp_path / "target"

    told = unpacked(packed(source)[0], target)

    assert told.refused == []
    assert tree(target) == tree(source)
    written = [content for content in tree(target).values() if content is not None]
    assert told.files == len(written)
    assert told.size == sum(map(len, written)) - len(b"deep/er/b.txt")  # the link's own
    for name in ("a.txt", "run", "secret", "deep", "empty"):
        assert (target / name).stat().st_mode == (source / name).stat().st_mode
        assert (target / name).stat().st_mtime == pytest.approx((source / name).stat().st_mtime, abs=1e-6)
    assert (target / "same-as-a.txt").stat().st_nlink == 1


def test_a_large_file_with_holes_comes_back_and_keeps_them(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with (source / "disk").open("wb") as file:
        file.seek(40_000_000)
        file.write(b"data")
        file.truncate(60_000_000)

    unpacked(packed(source)[0], tmp_path / "target", piece=262_144)

    target = tmp_path / "target" / "disk"
    assert target.read_bytes() == (source / "disk").read_bytes()
    assert target.stat().st_blocks * 512 < 5_000_000


def test_a_path_longer_than_the_format_once_took_is_a_path(tmp_path: Path) -> None:
    name = "/".join(["d" * 200] * 5)
    fill(tmp_path / "source", name)

    unpacked(packed(tmp_path / "source")[0], tmp_path / "target")

    assert (tmp_path / "target" / name).read_text() == name


def test_links_that_lead_outside_and_special_files_are_left_out(tmp_path: Path) -> None:
    source = tmp_path / "source"
    fill(source, "sub/a.txt")
    (source / "absolute").symlink_to("/etc/passwd")
    (source / "sub" / "outside").symlink_to("../../other")
    (source / "sub" / "inside").symlink_to("../sub/a.txt")
    os.mkfifo(source / "pipe")

    data, told = packed(source)

    assert names_of(data) == {"sub", "sub/a.txt", "sub/inside"}
    assert sorted(told.left_out) == ["absolute", "pipe", "sub/outside"]


def test_what_is_no_directory_is_not_packed(tmp_path: Path) -> None:
    fill(tmp_path, "file")
    with pytest.raises(FileNotFoundError, match="nothing"):
        packed(tmp_path / "nothing")
    with pytest.raises(NotADirectoryError, match="file"):
        packed(tmp_path / "file")


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "a/../../out", "a/..", "a//b", "/"])
def test_names_that_lead_outside_are_refused(tmp_path: Path, name: str) -> None:
    told = unpacked(archive_of(member(name)), tmp_path / "target")

    assert told.refused == [name]
    assert [p.name for p in tmp_path.rglob("*")] == ["target"]


def test_nothing_is_written_through_a_symlink(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    fill(outside, "file")
    target = tmp_path / "target"
    target.mkdir()
    (target / "there").symlink_to(outside)
    (target / "file").symlink_to(outside / "file")

    told = unpacked(
        archive_of(
            member("there/file"),
            member("there", kind=tarfile.DIRTYPE),
            member("file"),
            member("inner", kind=tarfile.SYMTYPE, link="sub"),
            member("inner/x"),
            member("bad", kind=tarfile.SYMTYPE, link="../outside"),
            member("worse", kind=tarfile.SYMTYPE, link="/etc"),
            member("hard", kind=tarfile.LNKTYPE, link="file"),
            member("device", kind=tarfile.CHRTYPE),
        ),
        target,
    )

    assert told.refused == ["inner/x", "bad", "worse", "hard", "device", "there"]
    assert (told.files, told.size) == (2, 4)
    assert tree(outside) == {b"file": b"file"}
    assert tree(target) == {b"there": os.fsencode(outside), b"file": b"evil", b"inner": b"sub"}


def test_links_that_lead_outside_only_together_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    fill(source, "s/a.txt")
    (source / "s" / "up").symlink_to("..")
    (source / "out").symlink_to("s/up/..")

    data, left = packed(source)
    told = unpacked(
        archive_of(
            member("s", kind=tarfile.DIRTYPE),
            member("s/up", kind=tarfile.SYMTYPE, link=".."),
            member("out", kind=tarfile.SYMTYPE, link="s/up/.."),
        ),
        tmp_path / "target",
    )

    assert (names_of(data), left.left_out) == ({"s", "s/a.txt", "s/up"}, ["out"])
    assert told.refused == ["out"]
    assert sorted(p.name for p in (tmp_path / "target").iterdir()) == ["s"]


def test_modes_are_reduced_to_what_is_harmless(tmp_path: Path) -> None:
    unpacked(
        archive_of(
            member("tool", mode=0o6777),
            member("text", mode=0o666),
            member("closed", mode=0),
            member("dir", kind=tarfile.DIRTYPE, mode=0o3777),
        ),
        tmp_path / "new",
    )

    modes = {path.name: path.stat().st_mode & 0o7777 for path in (tmp_path / "new").iterdir()}
    assert modes == {"tool": 0o755, "text": 0o644, "closed": 0o600, "dir": 0o755}


def test_files_that_are_there_are_replaced_and_directories_kept(tmp_path: Path) -> None:
    fill(tmp_path, "a", "dir/x", "other")

    told = unpacked(
        archive_of(member("a"), member("dir"), member("dir2/x"), member("other/b"), member("other/c")),
        tmp_path,
    )

    assert tree(tmp_path) == {
        b"a": b"evil",
        b"dir": None,
        b"dir/x": b"dir/x",
        b"dir2": None,
        b"dir2/x": b"evil",
        b"other": b"other",
    }
    assert told.refused == ["dir", "other"]
    assert (told.files, told.size) == (2, 8)


def test_a_member_that_comes_twice_is_the_last_one(tmp_path: Path) -> None:
    second = member("a")
    second.size = 2
    told = unpacked(
        archive_of(member("a"), second, member("a/b"), member("a", kind=tarfile.DIRTYPE)), tmp_path
    )

    assert tree(tmp_path) == {b"a": b"ev"}
    assert (told.files, told.size, told.refused) == (1, 2, ["a/b", "a"])


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (TransferLimits(members=2), "more than 2 files and directories"),
        (TransferLimits(size=11), "more than 11 bytes in all, with 'c/d/e'"),
        (TransferLimits(depth=2), "a path of 3 names, 'c/d/e', at most 2"),
    ],
    ids=["members", "size", "depth"],
)
def test_more_than_is_accepted_is_an_error_and_writes_nothing(
    tmp_path: Path, limits: TransferLimits, said: str
) -> None:
    with pytest.raises(RefusedError, match=said):
        unpacked(archive_of(member("a"), member("b"), member("c/d/e")), tmp_path / "target", limits)

    assert list(tmp_path.iterdir()) == []


def test_exactly_what_is_accepted_is_unpacked(tmp_path: Path) -> None:
    limits = TransferLimits(members=3, size=12, depth=3)

    told = unpacked(archive_of(member("a"), member("b"), member("c/d/e")), tmp_path, limits)

    assert (told.files, told.size, told.refused) == (3, 12, [])


def test_refused_members_count_so_that_nothing_goes_on_without_an_end(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="more than 2"):
        unpacked(archive_of(*[member("../out")] * 3), tmp_path / "target", TransferLimits(members=2))


def test_a_path_that_no_kernel_takes_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="a path of 4098 bytes"):
        unpacked(archive_of(member("x" * 4098)), tmp_path)


def test_what_stands_behind_the_end_is_dropped_but_not_for_ever(tmp_path: Path) -> None:
    limits = TransferLimits(members=1, size=4)
    unpacked(archive_of(member("a")) + b"x" * 10_000, tmp_path, limits)
    with pytest.raises(RefusedError, match="bytes as an archive"):
        unpacked(archive_of(member("b")) + b"x" * 100_000, tmp_path, limits)
    assert tree(tmp_path) == {b"a": b"evil"}


def test_so_many_names_of_what_was_refused_are_kept(tmp_path: Path) -> None:
    told = unpacked(archive_of(*[member("../x") for _ in range(10_050)]), tmp_path, piece=100_000)
    assert (told.members, len(told.refused)) == (10_050, 10_000)


def patched(data: bytes, *, size: bytes = b"", kind: bytes = b"") -> bytes:
    """Return an archive with another first header, whose check sum is made to fit."""
    changed = bytearray(data)
    if size:
        changed[124:136] = size
    if kind:
        changed[156:157] = kind
    changed[148:156] = b" " * 8
    changed[148:156] = b"%06o\0 " % sum(changed[:512])
    return bytes(changed)


def sparse() -> bytes:
    info = member("hole")
    info.pax_headers = {"GNU.sparse.name": "hole", "GNU.sparse.size": "104", "GNU.sparse.map": "100,4"}
    return archive_of(info)


def sized(size: str) -> bytes:
    info = member("a")
    info.pax_headers = {"size": size}
    return archive_of(info)


LONG = archive_of(member("x" * 200))


def told_by(*records: bytes) -> bytes:
    """Return an archive whose first header, of the next member, holds these records."""
    told = b"".join(records)
    first = patched(LONG[:512], size=b"%011o\0" % len(told))
    return first + told + bytes(-len(told) % 512) + archive_of(member("a"))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"x" * 2048, "no readable tar archive"),
        (b"", "ends too early"),
        (archive_of(member("a"))[:514], "ends too early"),
        (archive_of(member("a"))[:1024], "ends too early"),
        (bytes(512) + archive_of(member("a")), "behind its end"),
        (gzip.compress(archive_of(member("a")), mtime=0), "no readable tar archive|ends too early"),
        (patched(archive_of(member("a")), size=b"\xff" * 12), "a size of -1"),
        (patched(LONG, size=b"%011o\0" % (MAX_HEADER + 1)), f"a header of {MAX_HEADER + 1} bytes"),
        # Records as short as they can be: what is read of them is bounded.
        (told_by(b"4 =\n" * 2**18), "a header of 1048576 bytes, at most 16384 are accepted"),
        (told_by(b"99 path=b\n"), "not whole"),
        (LONG[:1024] * 2000, "two headers"),
        (patched(archive_of(member("a")), kind=b"S"), "a member of type b'S'"),
        (patched(archive_of(member("a")), kind=b"g"), "a member of type b'g'"),
        (sparse(), "a sparse member"),
        (sized("-1"), "a size of -1"),
        (sized("much"), "invalid literal"),
        (LONG[:512] + b"9" * 512 + LONG[1024:], "without lengths"),
        (LONG[:512] + b"3 a" + bytes(509) + LONG[1024:], "not whole"),
        (LONG[:512] + b"0 a=b\n" + bytes(506) + LONG[1024:], "not whole"),
    ],
)
def test_an_archive_that_is_made_to_do_harm_is_an_error_and_writes_nothing(
    tmp_path: Path, data: bytes, said: str
) -> None:
    with pytest.raises(RefusedError, match=said):
        unpacked(data, tmp_path / "target")

    assert list(tmp_path.iterdir()) == []


def test_names_with_a_zero_byte_are_refused(tmp_path: Path) -> None:
    info = member("a")
    info.pax_headers = {"path": "a\0b"}

    assert unpacked(archive_of(info, member("c")), tmp_path).refused == ["a\0b"]


def test_a_header_of_as_many_records_as_it_may_have_is_read(tmp_path: Path) -> None:
    records = b"4 =\n" * ((MAX_HEADER - 10) // 4)

    assert unpacked(told_by(records, b"10 path=b\n"), tmp_path).files == 1
    assert tree(tmp_path) == {b"b": b"evil"}


def test_the_longest_path_with_the_longest_link_fits_into_a_header(tmp_path: Path) -> None:
    name = "/".join(["\udcff" * 250] * 12)
    link = "/".join(["\udcff" * 250] * 16)
    target = tmp_path / "target"
    data = header(Member(name, "symlink", link=link)) + END

    assert unpacked(data, target).refused == []
    assert os.readlink(target / name) == link


@pytest.mark.parametrize("mtime", ["nan", "inf", "1e300", "-1e300", "-5"])
def test_a_time_that_no_file_can_have_is_no_reason_to_fail(tmp_path: Path, mtime: str) -> None:
    info = member("a")
    info.pax_headers = {"mtime": mtime}

    assert unpacked(archive_of(info), tmp_path).files == 1


def test_a_target_that_is_a_file_is_an_error_with_its_path(tmp_path: Path) -> None:
    fill(tmp_path, "file")
    for target in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(NotADirectoryError, match=str(target)):
            unpacked(archive_of(member("a")), target)
    assert tree(tmp_path) == {b"file": b"file"}

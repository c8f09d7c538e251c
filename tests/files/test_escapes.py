"""Whatever an archive holds, nothing outside of its target changes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest
from files.archives import archive_of, member, names_of, packed, unpacked
from files.boxes import fill, tree
from hypothesis import given, settings
from hypothesis import strategies as st
from support.old_python import old_python

from agenthost.files import Ignore, TransferLimits
from agenthost.files.inside.tar import RefusedError
from agenthost.files.program import _MODULES, _PACKAGE  # pyright: ignore[reportPrivateUsage] - what travels

NAMES = st.sampled_from(["a", "b", "c", "..", ".", "", "/", "out", "\udcff", "a\0", "x" * 300])
PATHS = st.lists(NAMES, min_size=1, max_size=5).map("/".join)
KINDS = st.sampled_from(
    [
        tarfile.REGTYPE,
        tarfile.REGTYPE,
        tarfile.DIRTYPE,
        tarfile.SYMTYPE,
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
    ]
)


@st.composite
def members(draw: st.DrawFn) -> tarfile.TarInfo:
    """Draw a member of any kind, at any path, leading anywhere."""
    return member(draw(PATHS), kind=draw(KINDS), link=draw(PATHS), mode=draw(st.integers(0, 0o7777)))


def check(root: Path) -> None:
    """Look at what there is in a target: nothing of it is more than a file, or leads out of it."""
    for where, directories, files in os.walk(root):
        for name in (*directories, *files):
            path = Path(where, name)
            status = path.lstat()
            assert path.is_symlink() or path.is_dir() or path.is_file()
            if path.is_symlink():
                assert (
                    os.path.realpath(path).startswith(str(root) + os.sep)
                    or path.resolve() == root
                    or not path.exists()
                )
            else:
                assert status.st_mode & 0o7022 == 0
                assert path.is_dir() or status.st_nlink == 1


@settings(max_examples=250, deadline=None)
@given(st.lists(members(), max_size=12), st.booleans())
def test_nothing_outside_changes_and_nothing_in_it_leads_outside(
    found: list[tarfile.TarInfo], there: bool
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory).resolve()
        fill(root / "out", "a", "b/c")
        target = root / "target"
        links: dict[bytes, bytes | None] = {}
        if there:  # one in which links of its owner lead outside already
            fill(target, "c/own")
            (target / "a").symlink_to("../out")
            (target / "b").symlink_to(root / "out" / "a")
            links = {b"a": b"../out", b"b": os.fsencode(root / "out" / "a")}
        before = tree(root / "out")
        failed = False
        try:
            unpacked(archive_of(*found), target, TransferLimits(depth=4))
        except (RefusedError, OSError):
            failed = True
        assert tree(root / "out") == before
        assert sorted(os.listdir(root)) == ["out", "target"] if target.exists() else ["out"]
        if failed:
            assert tree(target) == ({b"c": None, b"c/own": b"c/own", **links} if there else {})
        elif not there:
            check(target)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=3000), st.integers(0, 5000), st.integers(1, 2000))
def test_an_archive_with_bytes_that_do_not_belong_is_refused_or_harmless(
    junk: bytes, where: int, piece: int
) -> None:
    whole = archive_of(member("a"), member("d/" + "x" * 150), member("l", kind=tarfile.SYMTYPE, link="a"))
    data = whole[:where] + junk + whole[where + len(junk) :]
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory).resolve()
        try:
            unpacked(data, root / "target", piece=piece)
        except (RefusedError, OSError):
            assert list(root.iterdir()) == []
        else:
            assert list(root.iterdir()) == [root / "target"]
            check(root / "target")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(PATHS, st.sampled_from(["file", "directory", "link"]), PATHS), max_size=10))
def test_what_is_packed_is_what_lies_in_the_directory_alone(found: list[tuple[str, str, str]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory).resolve()
        fill(root / "out", "secret")
        source = root / "source"
        source.mkdir()
        for name, kind, link in found:
            path = Path(os.path.normpath(os.path.join(source, name.strip("/").replace("\0", ""))))
            if source not in path.parents:
                continue
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                if os.path.realpath(path.parent) != str(path.parent):
                    continue
                if kind == "file":
                    path.write_bytes(b"mine")
                elif kind == "directory":
                    path.mkdir()
                else:
                    path.symlink_to(link.replace("\0", ""))
            except OSError:
                continue
        data, _ = packed(source, Ignore(defaults=False))
        assert b"secret" not in data
        assert unpacked(data, root / "target").refused == []
        assert b"secret" not in tree(root / "target").values()
        check(root / "target")


def test_the_program_runs_on_the_oldest_python(tmp_path: Path) -> None:
    fill(tmp_path, "a")
    run = "import sys; sys.path.insert(0, sys.argv[1]); from agenthost.files.inside.main import main; "
    run += "sys.exit(main())"
    call: dict[str, object] = {
        "do": "pack",
        "path": "dir",
        "workdir": str(tmp_path),
        "limits": [9, 9, 9],
        "rules": [[], [], []],
    }
    fill(tmp_path / "dir", "b")
    # As in a sandbox there is no agenthost but the modules that travel.
    alone = tmp_path / "alone" / "agenthost" / "files" / "inside"
    alone.mkdir(parents=True)
    source = Path(sys.modules[f"{_PACKAGE}.tar"].__file__ or "").parent
    for name in _MODULES:
        (alone / f"{name}.py").write_bytes((source / f"{name}.py").read_bytes())
    done = subprocess.run(
        [old_python(), "-I", "-S", "-c", run, str(tmp_path / "alone"), json.dumps(call)],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == b""
    assert names_of(done.stdout) == {"b"}


def test_every_module_of_the_program_travels() -> None:
    source = Path(sys.modules[f"{_PACKAGE}.tar"].__file__ or "").parent
    assert {path.stem for path in source.glob("*.py")} == {"__init__", *_MODULES}


@pytest.mark.parametrize("format_", [tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT])
def test_plain_archives_of_other_programs_are_read(tmp_path: Path, format_: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format_) as archive:
        archive.addfile(member("d/", kind=tarfile.DIRTYPE))
        archive.addfile(member("d/a"), io.BytesIO(b"good"))
    unpacked(buffer.getvalue(), tmp_path)
    assert tree(tmp_path) == {b"d": None, b"d/a": b"good"}

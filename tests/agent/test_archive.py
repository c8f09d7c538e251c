"""Directories travel without secrets, and what comes back stays where it belongs."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest

from agenthost.agent.archive import MAX_HEADER, MAX_SIZE, UnpackLimits, pack, unpack
from agenthost.errors import ConfigError, DownloadError


def packed(directory: Path) -> tuple[set[str], list[str]]:
    buffer = io.BytesIO()
    told = pack(directory, buffer)
    buffer.seek(0)
    with tarfile.open(fileobj=buffer) as archive:
        return set(archive.getnames()), sorted(told.ignored)


def fill(directory: Path, *names: str) -> None:
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def archive_of(*members: tarfile.TarInfo) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(b"evil"[: member.size]))
    buffer.seek(0)
    return buffer


def member(name: str, *, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    info.size = 4 if kind == tarfile.REGTYPE else 0
    return info


def test_a_directory_comes_back_as_it_was(tmp_path: Path) -> None:
    source = tmp_path / "source"
    fill(source, "a.txt", "deep/er/b.txt", "ü \"quoted\" '\U0001f40d'.txt", ".git/HEAD")
    (source / "run").write_bytes(b"\xff\x00")
    (source / "run").chmod(0o755)
    (source / "empty").mkdir()
    (source / "link").symlink_to("deep/er/b.txt")
    os.link(source / "a.txt", source / "same-as-a.txt")
    buffer = io.BytesIO()

    pack(source, buffer)
    buffer.seek(0)
    told = unpack(buffer, tmp_path / "target")

    target = tmp_path / "target"
    assert told.refused == []
    assert {str(p.relative_to(target)) for p in target.rglob("*")} == {
        str(p.relative_to(source)) for p in source.rglob("*")
    }
    assert (target / "run").read_bytes() == b"\xff\x00"
    assert os.access(target / "run", os.X_OK)
    assert not os.access(target / "a.txt", os.X_OK)
    assert (target / "link").readlink() == Path("deep/er/b.txt")
    assert (target / "same-as-a.txt").read_text() == "a.txt"


def test_what_looks_like_a_secret_is_left_out_and_named(tmp_path: Path) -> None:
    fill(
        tmp_path,
        "a.py",
        ".env",
        ".env.local",
        ".env.example",
        "keys/server.pem",
        "sub/id_rsa",
        ".aws/credentials",
    )

    names, ignored = packed(tmp_path)

    assert names == {"a.py", ".env.example", "keys", "sub"}
    assert ignored == [".aws", ".env", ".env.local", "keys/server.pem", "sub/id_rsa"]


@pytest.mark.parametrize(
    "name",
    [
        ".env",
        ".env.production",
        ".envrc",
        ".git/config",
        ".git/config.worktree",
        ".git/modules/lib/config",
        ".git/modules/group/lib/config",
        ".git/worktrees/other/config.worktree",
        ".git-credentials",
        ".gitconfig",
        ".config/git/credentials",
        ".config/gh/hosts.yml",
        ".config/gcloud/access_tokens.db",
        "credentials.json",
        ".credentials.json",
        "terraform.tfstate",
        "terraform.tfstate.backup",
        "terraform.tfstate.d/production/terraform.tfstate",
        "production.tfstate",
        ".netrc",
        ".npmrc",
        ".pypirc",
        ".pgpass",
        ".cargo/credentials.toml",
        "server.pem",
        "server.key",
        "Server.PEM",
        "id_rsa",
        "id_ed25519_work",
        ".aws/credentials",
        ".ssh/config",
        ".docker/config.json",
        ".kube/config",
    ],
)
@pytest.mark.parametrize("where", ["", "deep/er/"], ids=["top", "deep"])
def test_credentials_are_left_out_wherever_they_lie(tmp_path: Path, where: str, name: str) -> None:
    fill(tmp_path, where + name, where + "a.py")

    names, ignored = packed(tmp_path)

    assert where + name not in names
    assert where + "a.py" in names
    assert [path for path in ignored if (where + name).startswith(path)] == ignored != []


def test_what_only_resembles_a_credential_travels(tmp_path: Path) -> None:
    alike = {
        ".env.example",
        ".env.sample",
        ".env.template",
        ".env.dist",
        ".envrc.example",
        ".git/HEAD",
        ".git/index",
        ".git/objects/config",
        ".gitignore",
        "config",
        "credentials.json.example",
        "credentials.py",
        "id_map.py",
        "keys.py",
        "main.tf",
        "src/git/config",
    }
    fill(tmp_path, *alike)

    names, ignored = packed(tmp_path)

    assert alike <= names
    assert ignored == []


def test_the_ignore_file_can_let_a_credential_travel(tmp_path: Path) -> None:
    fill(tmp_path, ".git/config", "sub/.git/config", ".npmrc")
    (tmp_path / ".agenthostignore").write_text("!.git/config\n!.npmrc\n")

    names, ignored = packed(tmp_path)

    assert names >= {".git/config", ".npmrc"}
    assert ignored == ["sub/.git/config"]


def test_a_pattern_with_two_stars_is_for_every_directory(tmp_path: Path) -> None:
    fill(tmp_path, "out/x", "a/b/out/x", "a/about/x", "a/out/y")
    (tmp_path / ".agenthostignore").write_text("**/out/x\n")

    names, ignored = packed(tmp_path)

    assert ignored == ["a/b/out/x", "out/x"]
    assert {"a/about/x", "a/out/y"} <= names


def test_the_ignore_file_adds_patterns_and_takes_them_back(tmp_path: Path) -> None:
    fill(tmp_path, "a.log", "keep.log", "build/x", "docs/secret.txt", "other/secret.txt", ".env")
    (tmp_path / ".agenthostignore").write_text("# ours\n*.log\n!keep.log\nbuild/\n/docs/secret.txt\n!.env\n")

    names, ignored = packed(tmp_path)

    assert names == {"keep.log", "docs", "other", "other/secret.txt", ".env", ".agenthostignore"}
    assert ignored == ["a.log", "build", "docs/secret.txt"]


def test_links_that_lead_outside_and_special_files_are_left_out(tmp_path: Path) -> None:
    source = tmp_path / "source"
    fill(source, "sub/a.txt")
    (source / "absolute").symlink_to("/etc/passwd")
    (source / "sub" / "outside").symlink_to("../../other")
    (source / "sub" / "inside").symlink_to("../sub/a.txt")
    os.mkfifo(source / "pipe")

    names, ignored = packed(source)

    assert names == {"sub", "sub/a.txt", "sub/inside"}
    assert ignored == ["absolute", "pipe", "sub/outside"]


def test_packing_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        pack(tmp_path / "nothing", io.BytesIO())


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "a/../../out", "a/.."])
def test_names_that_lead_outside_are_refused(tmp_path: Path, name: str) -> None:
    told = unpack(archive_of(member(name)), tmp_path / "target")

    assert told.refused == [name]
    assert [p.name for p in tmp_path.rglob("*")] == ["target"]


def test_nothing_is_written_through_a_symlink(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    fill(outside, "file")
    target = tmp_path / "target"
    target.mkdir()
    (target / "there").symlink_to(outside)
    (target / "file").symlink_to(outside / "file")

    told = unpack(
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

    assert told.refused == ["there/file", "there", "inner/x", "bad", "worse", "hard", "device"]
    assert (outside / "file").read_text() == "file"
    assert (target / "file").read_text() == "evil"
    assert not (target / "file").is_symlink()
    assert (target / "inner").is_symlink()


def test_links_that_lead_outside_only_together_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    fill(source, "s/a.txt")
    (source / "s" / "up").symlink_to("..")
    (source / "out").symlink_to("s/up/..")

    assert packed(source) == ({"s", "s/a.txt", "s/up"}, ["out"])
    told = unpack(
        archive_of(
            member("s", kind=tarfile.DIRTYPE),
            member("s/up", kind=tarfile.SYMTYPE, link=".."),
            member("out", kind=tarfile.SYMTYPE, link="s/up/.."),
        ),
        tmp_path / "target",
    )

    assert told.refused == ["out"]
    assert sorted(p.name for p in (tmp_path / "target").iterdir()) == ["s"]


def test_modes_are_reduced_to_what_is_harmless(tmp_path: Path) -> None:
    unpack(archive_of(member("tool", mode=0o6777), member("text", mode=0o666)), tmp_path)

    assert (tmp_path / "tool").stat().st_mode & 0o7777 & ~0o055 == 0o700
    assert (tmp_path / "text").stat().st_mode & 0o111 == 0


def test_files_that_are_there_are_replaced_and_directories_kept(tmp_path: Path) -> None:
    fill(tmp_path, "a", "dir/x")

    told = unpack(archive_of(member("a"), member("dir"), member("a/b")), tmp_path)

    assert (tmp_path / "a").read_text() == "evil"
    assert (tmp_path / "dir" / "x").exists()
    assert told.refused == ["dir", "a/b"]


def test_an_archive_that_is_compressed_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    bomb = io.BytesIO(gzip.compress(archive_of(member("a")).getvalue()))

    with pytest.raises(DownloadError, match="no readable tar archive"):
        unpack(bomb, tmp_path / "target")

    assert list((tmp_path / "target").iterdir()) == []


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (UnpackLimits(members=2), "more than 2 files and directories"),
        (UnpackLimits(size=11), "more than 11 bytes in all, with the 4 of 'c/d/e'"),
        (UnpackLimits(depth=2), "a path of 3 names, 'c/d/e', at most 2"),
    ],
    ids=["members", "size", "depth"],
)
def test_more_than_is_accepted_is_an_error_that_names_the_limit(
    tmp_path: Path, limits: UnpackLimits, said: str
) -> None:
    target = tmp_path / "target"

    with pytest.raises(DownloadError) as caught:
        unpack(archive_of(member("a"), member("b"), member("c/d/e")), target, limits)

    assert said in str(caught.value)
    assert "2 files were unpacked before" in str(caught.value)
    assert f"nothing was written outside of {target}" in str(caught.value)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "target"]


def test_exactly_what_is_accepted_is_unpacked(tmp_path: Path) -> None:
    limits = UnpackLimits(members=3, size=12, depth=3)

    told = unpack(archive_of(member("a"), member("b"), member("c/d/e")), tmp_path, limits)

    assert (told.files, told.size, told.refused) == (3, 12, [])


def test_refused_members_count_so_that_nothing_goes_on_without_an_end(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="more than 2"):
        unpack(archive_of(*[member("../out")] * 3), tmp_path / "target", UnpackLimits(members=2))


def test_a_sparse_file_is_counted_as_long_as_it_reads_and_not_written(tmp_path: Path) -> None:
    size = MAX_SIZE + 1
    info = member("hole")
    info.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.name": "hole",
        "GNU.sparse.size": str(size),
        "GNU.sparse.map": f"{size - 4},4",
    }

    with pytest.raises(DownloadError, match=f"with the {size} of 'hole'"):
        unpack(archive_of(info), tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_small_sparse_file_is_unpacked_with_its_hole(tmp_path: Path) -> None:
    info = member("hole")
    info.pax_headers = {"GNU.sparse.name": "hole", "GNU.sparse.size": "104", "GNU.sparse.map": "100,4"}

    told = unpack(archive_of(info), tmp_path)

    assert told.size == 104
    assert (tmp_path / "hole").read_bytes() == bytes(100) + b"evil"


def broken(archive: io.BytesIO, *, size: bytes) -> io.BytesIO:
    """Return the archive with another size in its first header, whose check sum is made to fit."""
    data = bytearray(archive.getvalue())
    data[124:136] = size
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    return io.BytesIO(bytes(data))


@pytest.mark.parametrize(
    ("archive", "said"),
    [
        (io.BytesIO(b"x" * 2048), "no readable tar archive"),
        (io.BytesIO(archive_of(member("a")).getvalue()[:514]), "unexpected end of data"),
        (broken(archive_of(member("a")), size=b"\xff" * 12), "a size of -1"),
        (
            broken(archive_of(member("x" * 200)), size=b"%011o\0" % (MAX_HEADER + 1)),
            f"a header of {MAX_HEADER + 1} bytes",
        ),
        (io.BytesIO(archive_of(member("x" * 200)).getvalue()[:1024] * 2000), "recursion"),
    ],
    ids=["garbage", "cut", "negative", "header", "headers"],
)
def test_an_archive_that_is_made_to_do_harm_is_an_error(
    tmp_path: Path, archive: io.BytesIO, said: str
) -> None:
    with pytest.raises(DownloadError, match=said):
        unpack(archive, tmp_path / "target")

    assert [path for path in tmp_path.rglob("*") if path.name not in ("target", "a")] == []


def test_names_with_a_zero_byte_are_refused(tmp_path: Path) -> None:
    info = member("a")
    info.pax_headers = {"path": "a\0b"}

    assert unpack(archive_of(info, member("c")), tmp_path).refused == ["a\0b"]

"""State directories as users have them, and state files that something has spoiled."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from local.stand_in import contents, stand_in, wait_gone

from agenthost import open_provider
from agenthost.errors import ConfigError, SandboxNotFoundError
from agenthost.providers.local import state
from agenthost.providers.local.ending import end

_GOOD: dict[str, object] = {
    "keeper": 4242,
    "name": "box",
    "provider": "local",
    "kind": "sandbox",
    "labels": {},
    "created_at": 1.0,
    "expires_at": 2.0,
    "workdir": "",
    "isolation": "namespaces",
    "resources": {},
    "cgroups": [],
    "socket": 1,
}


@pytest.mark.parametrize(
    "name",
    [
        "with space",
        "new\nline",
        "quote'\"",
        "\U0001f600-état",
        "--ro-bind",
        "$HOME",
        "x" * 200,
        "a/" * 60 + "deep",
    ],
)
async def test_a_sandbox_lives_in_any_state_directory(tmp_path: Path, name: str) -> None:
    async with stand_in(state_dir=str(tmp_path / name)) as sandbox:
        assert await sandbox.run("print('hello')") == "hello\n"
        found = await sandbox.engine.reach(sandbox.name)
        carrier = await found.dial()
        await carrier.aclose()
        await sandbox.backend.terminate()
    assert os.listdir(tmp_path / name / "local") == []


async def test_nobody_else_may_look_into_the_state(tmp_path: Path) -> None:
    async with stand_in(state_dir=str(tmp_path / "state")) as sandbox:
        modes = {path.name: path.stat().st_mode & 0o777 for path in sandbox.directory.iterdir()}
        assert (tmp_path / "state" / "local").stat().st_mode & 0o777 == 0o700
        assert sandbox.directory.stat().st_mode & 0o777 == 0o700
    assert {modes[name] for name in ("state.json", "lock", "log", "sock")} == {0o600}
    assert {modes[name] for name in ("work", "home", "spool", "boot")} == {0o700}


def test_a_state_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="AGENTHOST_STATE_DIR"):
        state.provider_directory(str(tmp_path / "file"), "local")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "local").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="local"):
        state.provider_directory(str(tmp_path / "state"), "local")


def spoil(**changes: object) -> Callable[[Path], None]:
    """Return what writes a state file with some fields changed; None leaves one out."""
    fields = {key: value for key, value in {**_GOOD, **changes}.items() if value is not None}

    def write(path: Path) -> None:
        path.write_text(json.dumps(fields))

    return write


def truncate(path: Path) -> None:
    """Write half a file."""
    path.write_text(json.dumps(_GOOD)[:40])


def nest(path: Path) -> None:
    """Write something that recursion dies of."""
    path.write_text("[" * 100_000)


def flood(path: Path) -> None:
    """Write more than anybody wants to read."""
    path.write_bytes(b" " * (2 << 20) + json.dumps(_GOOD).encode())


def scatter(path: Path) -> None:
    """Write what is no text."""
    path.write_bytes(b"\xff\x00\xfe" * 100)


def listed(path: Path) -> None:
    """Write JSON of another shape."""
    path.write_text("[1]")


def link(path: Path) -> None:
    """Point at a file of somebody else."""
    path.symlink_to("/etc/passwd")


_SPOILED: dict[str, Callable[[Path], None]] = {
    "truncated": truncate,
    "empty": lambda path: path.touch(),
    "binary": scatter,
    "too deep": nest,
    "too long": flood,
    "a symlink": link,
    "a pipe": os.mkfifo,
    "a directory": lambda path: path.mkdir(),
    "a list": listed,
    "the whole machine as keeper": spoil(keeper=-1),
    "a keeper beyond all numbers": spoil(keeper=10**30),
    "init as keeper": spoil(keeper=1),
    "a truth as keeper": spoil(keeper=True),
    "a name elsewhere": spoil(name="other"),
    "labels of numbers": spoil(labels={"a": 1}),
    "times of text": spoil(created_at="now"),
    "groups of text": spoil(cgroups="/sys/fs/cgroup"),
    "no kind": spoil(kind=None),
}


@pytest.mark.parametrize("how", sorted(_SPOILED))
def test_a_spoiled_state_file_is_no_record(tmp_path: Path, how: str) -> None:
    (tmp_path / "box").mkdir()
    _SPOILED[how](tmp_path / "box" / "state.json")
    assert state.read_record(str(tmp_path / "box")) is None


def test_a_good_state_file_is_one(tmp_path: Path) -> None:
    (tmp_path / "box").mkdir()
    spoil()(tmp_path / "box" / "state.json")
    record = state.read_record(str(tmp_path / "box"))
    assert record is not None
    assert record.keeper == 4242


@pytest.mark.parametrize("how", ["truncated", "a symlink", "a pipe", "init as keeper", "empty"])
async def test_a_sandbox_whose_state_file_is_spoiled_can_still_be_ended(how: str) -> None:
    async with stand_in() as sandbox:
        await sandbox.run("")
        path = sandbox.directory / "state.json"
        keeper = json.loads(contents(path))["keeper"]
        path.unlink()
        _SPOILED[how](path)
        with pytest.raises(SandboxNotFoundError):
            await sandbox.engine.reach(sandbox.name)
        assert sandbox.name not in [info.name async for info in sandbox.engine.list(None)]
        assert sandbox.directory.exists()
        await end(str(sandbox.directory))
        assert wait_gone(keeper)
        assert not sandbox.directory.exists()


@pytest.mark.parametrize("how", sorted(_SPOILED))
async def test_leftovers_with_a_spoiled_state_file_are_removed(tmp_path: Path, how: str) -> None:
    async with stand_in(state_dir=str(tmp_path)) as sandbox:
        dead = tmp_path / "local" / "box"
        (dead / "work").mkdir(parents=True)
        (dead / "lock").touch()
        _SPOILED[how](dead / "state.json")
        assert [info.name async for info in sandbox.engine.list(None)] == [sandbox.name]
        assert not dead.exists()


async def test_a_groups_path_in_a_state_file_removes_nothing_else(tmp_path: Path) -> None:
    async with stand_in(state_dir=str(tmp_path)) as sandbox:
        victim = tmp_path / "agenthost-victim"
        victim.mkdir()
        dead = tmp_path / "local" / "box"
        dead.mkdir()
        (dead / "lock").touch()
        outside = [str(victim), f"/sys/fs/cgroup/../../..{victim}"]
        spoil(keeper=2**22 + 1, cgroups=outside)(dead / "state.json")
        assert [info.name async for info in sandbox.engine.list(None)] == [sandbox.name]
        assert victim.exists()
        assert not dead.exists()


@pytest.mark.parametrize(
    "sandbox_id", ["", "..", "../local/x", "a/b", "/etc", "UPPER", "x\0y", "-x", "a" * 64]
)
async def test_an_id_that_is_no_name_is_not_found(sandbox_id: str, tmp_path: Path) -> None:
    async with stand_in(state_dir=str(tmp_path)) as sandbox:
        with pytest.raises(SandboxNotFoundError):
            await sandbox.engine.reach(sandbox_id)


@pytest.mark.parametrize("others", [False, True], ids=["alone", "others make theirs"])
async def test_an_unfinished_entry_of_a_dead_host_goes(others: bool, tmp_path: Path) -> None:
    parent = tmp_path / "local"
    parent.mkdir(mode=0o700)
    old, young = parent / ".new-old", parent / ".new-young"
    for path in (old, young):
        path.mkdir()
        (path / "lock").touch()
    os.utime(old, (0, 0))
    fd = os.open(parent, os.O_RDONLY)
    try:
        if others:  # it may be the young one that they make
            fcntl.flock(fd, fcntl.LOCK_SH)
        async with open_provider("local", state_dir=str(tmp_path)) as provider:
            assert [info async for info in provider.list()] == []
        assert not old.exists()
        assert young.exists() is others
    finally:
        os.close(fd)

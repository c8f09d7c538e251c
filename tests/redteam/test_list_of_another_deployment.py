"""Two deployments share a machine, and one of them cleans up: the other one's sandboxes live on."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from local.stand_in import StandIn, stand_in

from agenthost import open_provider
from agenthost.providers.local import ending, mounts
from agenthost.spec import SandboxSpec

NAME = "web"


def leave(root: Path, name: str = NAME) -> Path:
    """Make what a keeper that was killed leaves below a state directory."""
    directory = root / "local" / name
    (directory / "home").mkdir(parents=True)
    (directory / "lock").touch()
    for path in (root, root / "local", directory):
        path.chmod(0o700)
    return directory


async def list_all(root: Path) -> None:
    """List the sandboxes of a deployment; what is dead there is removed."""
    async with open_provider("local", state_dir=str(root)) as provider:
        assert [info async for info in provider.list()] == []


async def end_one(root: Path) -> None:
    """End the dead sandbox by its directory, as terminate does."""
    await ending.end(str(root / "local" / NAME))


@asynccontextmanager
async def living(root: Path) -> AsyncGenerator[StandIn]:
    """A sandbox of one deployment."""
    async with stand_in(SandboxSpec(name=NAME), state_dir=str(root)) as sandbox:
        assert await sandbox.run("print('alive')") == "alive\n"
        yield sandbox


async def lives(sandbox: StandIn) -> bool:
    """Return whether a sandbox still answers."""
    try:
        return await sandbox.run("print('alive')") == "alive\n"
    except Exception:  # noqa: BLE001 - whatever says that it has ended
        return False


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program of the host in the directory of a sandbox that is dead."""
    with subprocess.Popen(["sleep", "3600"], cwd=leave(tmp_path) / "home") as process:
        try:
            yield process
        finally:
            process.kill()


def nested(one: Path) -> Path:
    """Return a state directory whose path ends as the first one's does."""
    return one.parent / "other" / one.name


def beside(one: Path) -> Path:
    """Return a state directory beside the first one."""
    return one.parent / "beside"


@pytest.mark.attack(
    "end a sandbox of another deployment", "list sandboxes where one of the same name is dead"
)
@pytest.mark.parametrize("place", [beside, nested])
async def test_a_list_ends_no_sandbox_of_another_deployment(
    tmp_path: Path, place: Callable[[Path], Path]
) -> None:
    one = tmp_path / "state"
    dead = leave(place(one))
    async with living(one) as sandbox:
        await list_all(place(one))
        assert not dead.exists()
        assert await lives(sandbox)


@pytest.mark.attack("end a sandbox of another deployment", "terminate a dead one of the same name")
async def test_the_end_of_a_dead_sandbox_ends_no_other(tmp_path: Path) -> None:
    dead = leave(tmp_path / "beside")
    async with living(tmp_path / "state") as sandbox:
        await end_one(tmp_path / "beside")
        assert not dead.exists()
        assert await lives(sandbox)


@pytest.mark.attack("end a process of the host", "a dead sandbox in whose directory a user works")
async def test_a_shell_in_the_directory_of_a_dead_sandbox_lives_on(
    tmp_path: Path, shell: subprocess.Popen[bytes]
) -> None:
    await list_all(tmp_path)
    assert not (tmp_path / "local" / NAME).exists()
    assert shell.poll() is None


def compare_ends_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have places told apart by the last names of their paths alone."""
    place_of, parse = mounts.place_of, mounts.parse

    def end_of(path: bytes, names: int) -> bytes:
        return b"/".join(path.split(b"/")[-names:])

    def short_place(directory: str) -> tuple[bytes, bytes]:
        return place_of(directory)[0], end_of(os.fsencode(directory), 2)

    def short_roots(table: bytes) -> list[mounts.MountedAt]:
        return [replace(one, root=end_of(one.root, 3)) for one in parse(table)]

    monkeypatch.setattr(mounts, "place_of", short_place)
    monkeypatch.setattr(mounts, "parse", short_roots)


@pytest.mark.control("list sandboxes where one of the same name is dead")
@pytest.mark.control("terminate a dead one of the same name")
@pytest.mark.parametrize("clean_up", [list_all, end_one])
async def test_where_only_the_ends_of_paths_count_the_other_one_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_up: Callable[[Path], Awaitable[None]]
) -> None:
    leave(tmp_path / "beside")
    async with living(tmp_path / "state") as sandbox:
        compare_ends_only(monkeypatch)
        await clean_up(tmp_path / "beside")
        assert not await lives(sandbox)


@pytest.mark.control("a dead sandbox in whose directory a user works")
async def test_where_a_working_directory_counts_the_shell_is_ended(
    tmp_path: Path, shell: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "_UNISOLATED", "local")
    await list_all(tmp_path)
    assert shell.wait(10) == -signal.SIGKILL

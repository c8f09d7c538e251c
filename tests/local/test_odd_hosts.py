"""Hosts whose Python is within another program, and whose packages are links."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from local.sandboxes import open_sandbox
from support.wheelhouse import files_of, with_needs

from agenthost.errors import ConfigError
from agenthost.providers.local.interpreter import PACKAGES, host_interpreter
from agenthost.providers.local.linked_packages import stores_of
from agenthost.providers.local.provider import LocalProvider

PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give this Python a prefix with an interpreter and a server that embeds one."""
    (tmp_path / "bin").mkdir()
    for name in (PYTHON, "python", "a-server"):
        (tmp_path / "bin" / name).touch(mode=0o755)
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    monkeypatch.delattr(sys, "_base_executable", raising=False)
    return tmp_path


@pytest.mark.parametrize("executable", ["bin/a-server", "/usr/bin/env", "", None])
def test_a_program_that_embeds_python_finds_the_interpreter_beside_it(
    prefix: Path, monkeypatch: pytest.MonkeyPatch, executable: str | None
) -> None:
    monkeypatch.setattr(sys, "executable", str(prefix / executable) if executable else executable)

    assert host_interpreter() == str(prefix / "bin" / PYTHON)


def test_an_interpreter_of_its_prefix_is_taken_by_whatever_name(
    prefix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(prefix / "bin" / "python"))

    assert host_interpreter() == str(prefix / "bin" / "python")


def test_a_program_without_an_interpreter_is_told_what_to_do(
    prefix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (prefix / "bin" / PYTHON).unlink()
    monkeypatch.setattr(sys, "executable", str(prefix / "bin" / "a-server"))

    with pytest.raises(ConfigError, match=r"a-server.*ordinary python"):
        host_interpreter()


_LEAVES_ONE = """
import sys
sys.executable = None
import anyio
import agenthost.owned
from agenthost import SandboxSpec, open_provider

async def main():
    async with open_provider("local-unisolated") as provider:
        sandbox = await provider.create(SandboxSpec(name="left"))
        agenthost.owned.own(sandbox.provider, sandbox.id, opened_as=sandbox.provider)

anyio.run(main)
"""


def test_a_program_whose_executable_is_unknown_ends_its_sandboxes_all_the_same(tmp_path: Path) -> None:
    env = {
        **os.environ,
        "AGENTHOST_STATE_DIR": str(tmp_path / "state"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-c", _LEAVES_ONE], env=env, capture_output=True, timeout=60, check=True
    )

    assert done.stderr == b""
    assert not (tmp_path / "state" / "local-unisolated" / "left").exists()


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """Yield a directory that any user can enter."""
    with tempfile.TemporaryDirectory() as made:
        os.chmod(made, 0o755)
        yield Path(made).resolve()


@pytest.fixture
def linked_site(open_directory: Path) -> Path:
    """Return a site of links to the files of the SDK and of what it needs."""
    site = open_directory / "site"
    for package in with_needs(["claude-agent-sdk"]):
        for inside, source in files_of(package):
            place = site / inside
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(source.resolve())
    return site


async def test_of_what_lies_beside_a_linked_package_nothing_is_seen_inside(
    open_directory: Path, linked_site: Path
) -> None:
    home = open_directory / "home"
    (home / "mine").mkdir(parents=True)
    (home / "mine" / "__init__.py").write_text("here = True\n")
    (home / ".netrc").write_text("a secret\n")
    (linked_site / "mine").symlink_to(home / "mine")
    async with open_sandbox(partial(LocalProvider, site=str(linked_site))) as (_, sandbox):
        inside = sandbox.layout.site_dirs[-1]
        assert (await sandbox.exec(["cat", f"{inside}/mine/__init__.py"])).stdout == b"here = True\n"
        assert (await sandbox.exec(["ls", "-A", str(home)])).stdout == b"mine\n"


async def test_packages_that_are_links_are_seen_inside(linked_site: Path) -> None:
    async with open_sandbox(partial(LocalProvider, site=str(linked_site))) as (_, sandbox):
        program = (
            "import sys; sys.path[:0] = sys.argv[1:]; import claude_agent_sdk; print(claude_agent_sdk.query)"
        )
        argv = [sandbox.layout.python, "-I", "-S", "-c", program, *sandbox.layout.site_dirs]
        result = await sandbox.exec(argv)

    assert result.stdout.startswith(b"<function query"), result.stderr


def test_links_are_followed_step_by_step_and_directories_may_be_links(tmp_path: Path) -> None:
    (tmp_path / "store-2" / "mcp").mkdir(parents=True)
    (tmp_path / "store-2" / "mcp" / "__init__.py").touch()
    (tmp_path / "store-1").mkdir()
    (tmp_path / "store-1" / "mcp").symlink_to("../store-2/mcp")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "mcp").symlink_to(tmp_path / "store-1" / "mcp")

    assert stores_of([str(tmp_path / "site")], PACKAGES) == (
        str(tmp_path / "store-1" / "mcp"),
        str(tmp_path / "store-2" / "mcp"),
    )


def test_plain_packages_need_no_store(tmp_path: Path) -> None:
    (tmp_path / "mcp").mkdir()
    (tmp_path / "mcp" / "__init__.py").touch()
    (tmp_path / "other").symlink_to("/nowhere")

    assert stores_of([str(tmp_path)], PACKAGES) == ()


def test_a_package_whose_files_lie_anywhere_is_refused_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "1a2b3c").touch()
    (tmp_path / "site" / "mcp").mkdir(parents=True)
    (tmp_path / "site" / "mcp" / "__init__.py").symlink_to(tmp_path / "1a2b3c")

    with pytest.raises(ConfigError, match=r"1a2b3c.*--link-mode copy.*site="):
        stores_of([str(tmp_path / "site")], PACKAGES)

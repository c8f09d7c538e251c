"""``scripts/setup``: what makes the two commands work on a fresh clone."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
SETUP = ROOT / "scripts" / "setup"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Load scripts/setup.py for a project of its own, in which installing is only written down."""
    spec = importlib.util.spec_from_file_location("setup_script", ROOT / "scripts" / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    venv = tmp_path / ".venv"
    monkeypatch.setattr(loaded, "ROOT", tmp_path)
    monkeypatch.setattr(loaded, "VENV", venv)
    monkeypatch.setattr(loaded, "PYTHON", venv / "bin" / "python")
    monkeypatch.setattr(loaded, "STAMP", venv / "stamp.json")
    monkeypatch.setattr(loaded, "WORKER_PACKAGES", venv / "worker")
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    return loaded


PROJECT = """
[dependency-groups]
test = ["pytest>=9"]
lint = ["ruff", "mypy"]
dev = [{ include-group = "test" }, { include-group = "lint" }]
"""


class Installer:
    """Stands in for pip: makes the interpreter that it was asked for and keeps the requirements."""

    def __init__(self, python: Path) -> None:
        self.python = python
        self.calls: list[list[str]] = []

    def __call__(self, project: dict[str, Any], groups: set[str], usable: bool) -> None:
        del project, usable
        self.calls.append(sorted(groups))
        self.python.parent.mkdir(parents=True, exist_ok=True)
        self.python.unlink(missing_ok=True)
        self.python.symlink_to(sys.executable)


@pytest.fixture
def installer(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Installer:
    made = Installer(module.PYTHON)
    monkeypatch.setattr(module, "install", made)
    monkeypatch.setattr(module, "ensure_bubblewrap", lambda: None)
    monkeypatch.setattr(module, "ensure_worker", lambda: None)
    return made


def test_groups_are_read_from_the_project_with_those_they_include(module: ModuleType) -> None:
    project = tomllib.loads(PROJECT)
    assert module.group_requirements(project, "dev") == ["pytest>=9", "ruff", "mypy"]


def test_nothing_is_installed_twice(module: ModuleType, installer: Installer) -> None:
    assert module.main(["test"]) == 0
    assert module.main(["test"]) == 0
    assert module.main([]) == 0
    assert installer.calls == [["test"]]


def test_more_is_installed_when_more_is_asked_for_and_kept_when_the_project_changes(
    module: ModuleType, installer: Installer
) -> None:
    module.main([])
    module.main(["dev"])
    module.ROOT.joinpath("pyproject.toml").write_text(PROJECT + "\n# changed\n")
    module.main([])
    assert installer.calls == [[], ["lint", "test"], ["lint", "test"]]


def test_what_was_cut_short_is_done_again(
    module: ModuleType,
    installer: Installer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(*_arguments: object) -> None:
        raise module.SetupError("the disk is full")

    module.main(["test"])
    module.ROOT.joinpath("pyproject.toml").write_text(PROJECT + "\n# changed\n")
    monkeypatch.setattr(module, "install", fails)
    assert module.main(["test"]) == 1
    assert "scripts/setup: the disk is full" in capsys.readouterr().err
    monkeypatch.setattr(module, "install", installer)
    assert module.main(["test"]) == 0
    assert len(installer.calls) == 2


def test_a_broken_interpreter_is_made_anew(module: ModuleType, installer: Installer) -> None:
    module.main([])
    module.PYTHON.unlink()
    module.main([])
    assert installer.calls == [[], []]


def test_an_unknown_level_is_a_usage_error(module: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert module.main(["everything"]) == 2
    assert "usage: scripts/setup" in capsys.readouterr().err


def test_without_a_python_it_says_what_to_install() -> None:
    env = {"PATH": os.environ["PATH"], "PYTHON": "/nonexistent/python"}
    done = subprocess.run([SETUP], env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "needs Python 3.11 or newer" in done.stderr
    assert "apt-get install" in done.stderr


def test_without_bubblewrap_and_without_root_it_says_how_to_get_it(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    module.ensure_bubblewrap()
    assert "sudo apt-get install bubblewrap" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["scripts/setup", "scripts/test", "scripts/demo", ".ci/run"])
def test_scripts_can_be_run(name: str) -> None:
    assert os.access(ROOT / name, os.X_OK)
    checked = subprocess.run(["sh", "-n", ROOT / name], capture_output=True, check=False, timeout=60)
    assert checked.returncode == 0, checked.stderr


def test_an_engine_is_installed_where_none_is_and_only_then(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def install(package: str) -> bool:
        asked.append(package)
        return False

    monkeypatch.setattr(module, "apt_install", install)
    monkeypatch.setenv("DOCKER_HOST", "unix:///somewhere.sock")
    module.ensure_engine()
    assert asked == []
    monkeypatch.delenv("DOCKER_HOST")

    def nothing(_: str) -> None:
        return None

    monkeypatch.setattr(module.shutil, "which", nothing)
    monkeypatch.setattr(module.os.path, "exists", nothing)
    module.ensure_engine()
    assert asked == ["docker.io"]
    assert "apt-get install docker.io" in capsys.readouterr().out


def test_the_packages_of_the_worker_are_installed_once(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], *_more: object) -> None:
        commands.append(command)

    monkeypatch.setattr(module, "find_node", lambda: tmp_path)
    monkeypatch.setattr(module, "run", run)
    module.ensure_worker()
    module.ensure_worker()
    assert len(commands) == 1
    assert {"ci", "--ignore-scripts"} <= set(commands[0])
    assert (module.WORKER_PACKAGES / "package-lock.json").exists()


def test_where_npm_fails_tests_are_skipped_but_not_on_ci(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(command: list[str], *_more: object) -> None:
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(module, "find_node", lambda: tmp_path)
    monkeypatch.setattr(module, "run", fails)
    monkeypatch.delenv("CI", raising=False)
    module.ensure_worker()
    assert "tests of the cloudflare provider are skipped" in capsys.readouterr().out
    monkeypatch.setenv("CI", "true")
    with pytest.raises(subprocess.CalledProcessError):
        module.ensure_worker()

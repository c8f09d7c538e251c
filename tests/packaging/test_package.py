"""What a user installs."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
import uv_build

ROOT = Path(__file__).parent.parent.parent


def loaded_by(statement: str) -> set[str]:
    """Return the top-level modules that a statement loads in a fresh interpreter."""
    source = f"import sys; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True, timeout=60
    )
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_importing_agenthost_loads_no_sdk_and_no_http_client() -> None:
    heavy = {"claude_agent_sdk", "mcp", "httpx", "httpx2", "pydantic", "typer", "rich"}
    vendors = {"modal", "e2b", "daytona", "vercel", "docker"}
    loaded = loaded_by("import agenthost")
    assert "agenthost" in loaded
    assert not loaded & (heavy | vendors)


# Values of one or two fields, whose order says what they are.
BY_PLACE = {"Cursor", "Downloaded", "Ignore", "NetworkPolicy", "TransferProgress", "Uploaded"}


@pytest.mark.parametrize("name", ["agenthost", "agenthost.files", "agenthost.sandbox", "agenthost.supports"])
def test_public_values_cannot_be_changed_and_are_made_by_keyword(name: str) -> None:
    module = importlib.import_module(name)
    public = [getattr(module, one) for one in getattr(module, "__all__", vars(module))]
    values = [one for one in public if isinstance(one, type) and dataclasses.is_dataclass(one)]
    assert values
    for value in values:
        assert getattr(value, "__dataclass_params__").frozen, value  # noqa: B009 - it has no public name
        if value.__name__ not in BY_PLACE:
            assert all(field.kw_only for field in dataclasses.fields(value)), value


def test_importing_the_scripted_model_loads_no_sdk() -> None:
    assert not loaded_by("import agenthost.testing") & {"claude_agent_sdk", "mcp", "httpx", "pydantic"}


def test_the_version_is_the_one_of_the_changelog() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    sections = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert sections[0] == "Unreleased"
    # Before the first release there is no section yet, only what it will be.
    named = sections[1] if len(sections) > 1 else re.findall(r"First version, (\S+) when", text)[0]
    assert named == version("agenthost")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    directory = tmp_path_factory.mktemp("wheel")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        name = uv_build.build_wheel(str(directory))
    return zipfile.Path(directory / name)


def test_the_wheel_holds_the_types_the_licence_and_the_command(wheel: zipfile.Path) -> None:
    info = next(path for path in wheel.iterdir() if path.name.endswith(".dist-info"))
    assert (wheel / "agenthost" / "py.typed").is_file()
    assert "agenthost = agenthost.cli:main" in (info / "entry_points.txt").read_text()
    licence = (info / "licenses" / "LICENSE").read_text()
    assert "Apache License" in licence
    assert "The agenthost authors" in licence


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: zipfile.Path) -> None:
    source = ROOT / "src"
    files = {
        str(path.relative_to(source))
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    packed = {name for name in wheel.root.namelist() if not name.endswith("/") and ".dist-info/" not in name}
    assert packed == files


def test_tests_make_the_data_that_they_need() -> None:
    others = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    ]
    assert not others, "recorded data grows stale unseen: make it in the test"


def test_every_dependency_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"].values()
    wanted = [*project["project"]["dependencies"], *(item for group in groups for item in group)]
    names = {re.split(r"[^A-Za-z0-9_-]", item)[0] for item in wanted if isinstance(item, str)}
    explained = set(
        re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "dependencies.md").read_text(), re.MULTILINE)
    )
    assert explained == names


def test_what_runs_inside_parses_on_python_3_10() -> None:
    package = ROOT / "src" / "agenthost"
    for directory in (package / "wire", package / "runner", package / "guest" / "inside"):
        for path in directory.rglob("*.py"):
            ast.parse(path.read_text(), str(path), feature_version=(3, 10))

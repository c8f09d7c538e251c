"""The package of examples/custom_provider is built, installed, found by its name, and keeps the contract."""

from __future__ import annotations

import json
import os
import shutil
import sys
import zipfile
from pathlib import Path

import anyio
import pytest
import uv_build
from examples.running import EXAMPLES
from examples.ssh_server import ssh_server
from support.command_line import environment

PACKAGE = EXAMPLES / "custom_provider"
LIMIT = 900.0  # seconds until the package's own tests are taken to hang
# One check of each kind for the normal run; the long one has them all.
SOME = (
    "test_arguments_arrive_as_they_are or test_name_labels_and_end or test_a_name_that_is_taken "
    "or test_list_tells or test_a_cancelled_create or test_another_process_goes_on"
)
# What another way there may do to bytes, to standard input, and to a link that is cut.
MORE = "test_50_mb_come_back_byte_for_byte or test_any_name_is_a_name or test_a_cut_link"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and install it, which for one of plain Python is to unpack it."""
    copy = tmp_path_factory.mktemp("source") / "custom_provider"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache"))
    built, site = tmp_path_factory.mktemp("built"), tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(copy)
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        name = uv_build.build_wheel(str(built))
    zipfile.ZipFile(built / name).extractall(site)
    return site


def surroundings(site: Path, command: list[str]) -> dict[str, str]:
    """Return the environment of a program where the package is installed."""
    options = json.dumps({"command": command, "path": str(Path(sys.executable).parent)})
    path = os.pathsep.join((str(site), str(EXAMPLES.parent / "src")))
    return environment({"PYTHONPATH": path, "AGENTHOST_SSH_OPTIONS": options})


async def run_its_tests(site: Path, where: Path, *arguments: str, command: list[str]) -> str:
    """Run the package's own tests as its developer would; return what they print."""
    tests = where / "tests"
    shutil.copytree(PACKAGE / "tests", tests, ignore=shutil.ignore_patterns("__pycache__"))
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
        f"--rootdir={where}",
    ]
    with anyio.fail_after(LIMIT):
        done = await anyio.run_process(
            [*argv, *arguments, str(tests)], env=surroundings(site, command), cwd=where, check=False
        )
    assert done.returncode == 0, done.stdout.decode()
    return done.stdout.decode()


async def test_it_is_found_by_its_name(installed: Path) -> None:
    program = """
import agenthost, sys
from agenthost.registry import registration
print(registration("ssh"))
async def main():
    async with agenthost.open_provider("ssh", command=["sh", "-c"], root="/nowhere") as provider:
        print([info async for info in provider.list()])
import anyio
anyio.run(main)
"""
    done = await anyio.run_process([sys.executable, "-c", program], env=surroundings(installed, []))
    named, listed = done.stdout.decode().splitlines()
    assert named == "entry point 'ssh' (agenthost.providers) of agenthost-ssh 0.1.0"
    assert listed == "[]"


@pytest.mark.full
async def test_some_of_its_own_tests_pass(installed: Path, tmp_path: Path) -> None:
    told = await run_its_tests(installed, tmp_path, "-k", f"asyncio and ({SOME})", command=["sh", "-c"])
    assert "6 passed" in told


@pytest.mark.full
async def test_some_of_its_own_tests_pass_through_a_real_sshd(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    with ssh_server(tmp_path / "keys") as command:
        chosen = f"asyncio and ({SOME} or {MORE})"
        told = await run_its_tests(installed, tmp_path, "-k", chosen, command=command)
    assert "9 passed" in told


@pytest.mark.full
async def test_all_of_its_own_tests_pass(installed: Path, tmp_path: Path) -> None:
    # What a program leaves in the background outlives its sandbox there: nothing but the guest holds the
    # sandbox's processes, and it ends without them. The check itself passes and would leave one behind.
    chosen = "asyncio and not test_a_child_in_the_background"
    told = await run_its_tests(installed, tmp_path, "-rs", "-k", chosen, command=["sh", "-c"])
    assert "skipped" in told  # what its sandboxes cannot do
    assert "xfailed" not in told


def test_it_is_small() -> None:
    """Lines that are not empty."""
    code = [file.read_text().splitlines() for file in (PACKAGE / "src").rglob("*.py")]
    assert sum(bool(line.strip()) for lines in code for line in lines) <= 112
    binding = (PACKAGE / "tests" / "test_conformance.py").read_text().splitlines()
    assert sum(bool(line.strip()) for line in binding) <= 25

"""Fixtures of pytest-asyncio, ``asyncio.wait_for``, and what agenthost opens."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import anyio
import pytest
from support.command_line import environment

LIMIT = 120.0  # seconds until the program is taken to hang
PROGRAM = Path(__file__).with_name("fixtures_program.py")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run the test once: the loop of the test is not the one of the program."""
    return "asyncio"


async def test_what_agenthost_opens_is_a_fixture_of_pytest_asyncio_and_is_opened_within_a_time(
    tmp_path: Path,
) -> None:
    await anyio.Path(tmp_path, "test_program.py").write_bytes(PROGRAM.read_bytes())
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
    argv += ["-o", "asyncio_default_fixture_loop_scope=function", "test_program.py"]
    with anyio.fail_after(LIMIT):
        done = await anyio.run_process(argv, env=environment(), cwd=tmp_path, check=False)
    printed = done.stdout.decode()
    assert done.returncode == 0, printed
    assert re.search(r"^19 passed", printed, re.MULTILINE)

"""``--live`` runs the kits where the environment leads, within a budget, and leaves nothing there."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.command_line import environment

from agenthost.testing.emulators.base.faults import Fault
from agenthost.testing.emulators.e2b import Emulator, emulator

ROOT = Path(__file__).parents[2]
CHECK = "TestE2BLive and a_line_reaches_the_caller"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """E2B's client runs on asyncio alone."""
    return "asyncio"


def leading_to(e2b: Emulator) -> dict[str, str]:
    """Return the vendor's own variables, which lead to an emulator instead of E2B."""
    return {
        "E2B_API_KEY": e2b.options["api_key"],
        "E2B_API_URL": e2b.options["api_url"],
        "E2B_SANDBOX_URL": e2b.options["sandbox_url"],
    }


async def run_live(*arguments: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run the suite as its user does; returns its exit code and what it printed."""
    argv = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "-q", "-rA", *arguments]
    done = await anyio.run_process(argv, env=environment(env), cwd=ROOT, check=False)
    return done.returncode, done.stdout.decode() + done.stderr.decode()


@pytest.mark.full
async def test_a_check_of_the_kit_runs_where_the_environment_leads_and_leaves_nothing() -> None:
    async with emulator() as e2b:
        code, said = await run_live("--live", "e2b", "tests/live", "-k", CHECK, env=leading_to(e2b))
        assert code == 0, said
        assert "1 passed" in said
        assert "POST /v2/sandboxes" in e2b.calls
        assert e2b.boxes.all == {}


@pytest.mark.full
async def test_when_the_minutes_are_over_nothing_is_made() -> None:
    async with emulator() as e2b:
        arguments = ["--live", "e2b", "--live-minutes", "0", "tests/live", "-k", CHECK]
        code, said = await run_live(*arguments, env=leading_to(e2b))
        assert code == 1, said
        assert "--live-minutes are over" in said
        assert "POST /v2/sandboxes" not in e2b.calls


@pytest.mark.full
async def test_without_an_account_it_says_what_is_missing() -> None:
    code, said = await run_live("--live", "e2b", "tests/live", "-k", CHECK)
    assert code == 1, said
    assert "set E2B_API_KEY" in said


@pytest.mark.full
async def test_without_it_nothing_live_is_collected() -> None:
    code, said = await run_live("--collect-only", "tests/live")
    assert code == pytest.ExitCode.NO_TESTS_COLLECTED, said


@pytest.mark.full
async def test_a_sandbox_that_a_check_leaves_behind_is_ended_and_fails_the_run(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["support.live"]\n')
    (tmp_path / "test_leaves.py").write_text("""
import anyio
import pytest
from support.live import live_run
from agenthost import SandboxSpec, open_provider

@pytest.fixture(scope="session")
def budget(pytestconfig):
    yield from live_run("local-unisolated", pytestconfig)

def test_leaves_one(budget):
    async def leave():
        async with open_provider("local-unisolated") as provider:
            await provider.create(SandboxSpec(name="left-behind"))
    anyio.run(leave)
""")
    argv = ["-c", "/dev/null", "--rootdir", str(tmp_path), str(tmp_path), "--live", "local-unisolated"]
    code, said = await run_live(*argv, env={"PYTHONPATH": str(ROOT / "tests")})
    assert code == 1, said
    assert "left at local-unisolated, and ended now" in said
    code, said = await run_live(*argv, "-k", "nothing", env={"PYTHONPATH": str(ROOT / "tests")})
    assert "left at" not in said


async def run_script(e2b: Emulator, *arguments: str) -> tuple[int, str]:
    """Run scripts/live without its set-up; returns its exit code and what it printed."""
    argv = [sys.executable, "scripts/live.py", "e2b", *arguments]
    done = await anyio.run_process(argv, env=environment(leading_to(e2b)), cwd=ROOT, check=False)
    return done.returncode, done.stdout.decode() + done.stderr.decode()


async def test_without_yes_the_script_prints_what_it_would_cost_and_makes_nothing() -> None:
    async with emulator() as e2b:
        code, printed = await run_script(e2b, "--max-usd", "1")
        assert code == 0, printed
        assert "$0.77 at most" in printed
        assert "Nothing was made" in printed
        code, printed = await run_script(e2b, "--max-usd", "0.2", "--yes")
        assert code == 2, printed
        assert "at least --max-usd 0.37" in printed
        assert "POST /v2/sandboxes" not in e2b.calls


@pytest.mark.full
async def test_with_yes_the_script_runs_the_kits_and_an_agent_and_leaves_nothing(e2b_template: Any) -> None:
    async with emulator(templates=e2b_template) as e2b:
        code, printed = await run_script(e2b, "--max-usd", "1", "--yes", "--", "-q", "-k", CHECK)
        assert code == 0, printed
        assert "1 passed" in printed
        assert "One agent at e2b: the answer of a script" in printed
        assert "Nothing is left." in printed
        assert e2b.boxes.all == {}


@pytest.mark.full
async def test_an_interrupted_script_leaves_nothing() -> None:
    async with emulator() as e2b:
        made = e2b.faults.add(Fault("POST /v2/sandboxes"))  # a fault of no kind: it only states that it came
        argv = [sys.executable, "scripts/live.py", "e2b", "--max-usd", "1", "--yes", "--", "-k", CHECK]
        env = environment(leading_to(e2b))
        async with await anyio.open_process(argv, env=env, cwd=ROOT, start_new_session=True) as script:
            await made.struck.wait()
            os.killpg(script.pid, signal.SIGINT)  # as a terminal does, to all of its processes
            assert script.stdout is not None
            printed = b"".join([data async for data in script.stdout]).decode()
            code = await script.wait()
        assert code == 1, printed
        assert "Nothing is left." in printed
        assert "One agent at" not in printed
        assert e2b.boxes.all == {}

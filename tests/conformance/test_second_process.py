"""The checks of agents that start another process: what that process can open, and what a failure leaves."""

from __future__ import annotations

import secrets
from pathlib import Path

import anyio
import pytest
from support.processes import is_alive, wait_until_gone

from agenthost import open_provider

CHECKS = "asyncio and (another_process_goes_on or a_killed_host)"
# A third party's test file, with the provider in it.
KIT = """
import os
import sys

import anyio

from agenthost import SandboxSpec, register_provider
from agenthost.errors import ProviderError
from agenthost.providers.local.local_unisolated import UnisolatedProvider
from agenthost.testing import HostedAgentConformance


class Mine(UnisolatedProvider):
    async def reach(self, sandbox_id):
        if sys.argv[0] == "-c":
            {elsewhere}
        return await super().reach(sandbox_id)


if sys.argv[0] != "-c":
    register_provider("mine", "{module}:Mine")


class TestMine(HostedAgentConformance):
    provider_name = "mine"
    spec = SandboxSpec(labels={{"of": "{label}"}})
    patience = {patience}
"""


def run_kit(
    pytester: pytest.Pytester,
    *options: str,
    elsewhere: str = "pass",
    patience: float = 120,
    label: str = "",
    directory: Path | None = None,
) -> pytest.RunResult:
    """Run the checks; ``elsewhere`` is what the provider does in the second process."""
    module = f"test_{secrets.token_hex(4)}"
    text = KIT.format(module=module, elsewhere=elsewhere, patience=patience, label=label or "mine")
    file = (directory or pytester.path) / f"{module}.py"
    file.write_text(text)
    return pytester.runpytest_subprocess("-p", "anyio", "-rs", "-q", *options, "-k", CHECKS, file)


async def left_with(label: str) -> list[str]:
    """Return the sandboxes that are there."""
    async with open_provider("local-unisolated") as provider:
        return [info.id async for info in provider.list({"of": label})]


@pytest.mark.full
def test_the_second_process_opens_a_provider_that_was_registered_in_the_test_file(
    pytester: pytest.Pytester,
) -> None:
    run_kit(pytester).assert_outcomes(passed=2)


def test_checks_are_skipped_with_a_reason_where_the_second_process_cannot_import_the_test_file(
    pytester: pytest.Pytester, tmp_path: Path
) -> None:
    # The working directory of a pytester is on sys.path.
    options = ("--import-mode=importlib", f"--rootdir={tmp_path}")
    result = run_kit(pytester, *options, directory=tmp_path)
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["*clause 6.*: register_provider has put 'mine' into*cannot import*"])


@pytest.mark.full
async def test_a_check_whose_second_process_fails_leaves_no_sandbox(pytester: pytest.Pytester) -> None:
    label = secrets.token_hex(8)
    result = run_kit(pytester, elsewhere='raise ProviderError("not today")', label=label)
    result.assert_outcomes(failed=2)
    assert "ProviderError: not today" in result.stdout.str()
    assert await left_with(label) == []


@pytest.mark.full
async def test_a_check_whose_second_process_hangs_leaves_neither_that_process_nor_a_sandbox(
    pytester: pytest.Pytester,
) -> None:
    label, noted = secrets.token_hex(8), anyio.Path(pytester.path / "noted")
    hang = f'open({str(noted)!r}, "a").write(f"{{os.getpid()}} "); await anyio.sleep_forever()'
    result = run_kit(pytester, elsewhere=hang, patience=20, label=label)
    result.assert_outcomes(failed=2)
    assert await left_with(label) == []
    pids = [int(pid) for pid in (await noted.read_text()).split()]
    assert len(pids) == 2
    wait_until_gone(pids, 5)
    assert [pid for pid in pids if is_alive(pid)] == []

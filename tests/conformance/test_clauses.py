"""The contract and its checks: no clause without a check, no check without a clause."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from agenthost.testing import HostedAgentConformance, SandboxConformance
from agenthost.testing.conformance import checks_of

KITS = (SandboxConformance, HostedAgentConformance)
CONTRACT = Path(__file__).parents[2] / "docs" / "contract.md"


def clauses_of_the_page() -> list[str]:
    return re.findall(r"^- \*\*(\d+\.\d+)\*\* ", CONTRACT.read_text(), re.MULTILINE)


def test_each_clause_has_a_check_and_each_check_a_clause() -> None:
    written = clauses_of_the_page()
    assert len(written) == len(set(written))
    assert {clause.number for kit in KITS for _, clause in checks_of(kit)} == set(written)


def test_every_test_of_a_kit_names_its_clause() -> None:
    for kit in KITS:
        tests = {name for name, _ in inspect.getmembers(kit, inspect.isfunction)}
        assert {name for name in tests if name.startswith("test_")} == {name for name, _ in checks_of(kit)}


def test_a_deviation_of_a_check_that_is_not_there_is_refused() -> None:
    with pytest.raises(TypeError, match="did you mean 'test_parents_are_made'"):

        class Wrong(SandboxConformance):  # pyright: ignore[reportUnusedClass] - making it is what fails
            known_deviations = {"test_parent_is_made": "a reason"}  # noqa: RUF012 - as a user writes it


KIT = """
import pytest
from agenthost.testing import SandboxConformance


class Test(SandboxConformance):
    provider_name = "local-unisolated"
    known_deviations = {deviations}
"""


def run_kit(pytester: pytest.Pytester, checks: str, **deviations: str) -> pytest.RunResult:
    """Run some checks as a third party would."""
    pytester.makepyfile(test_kit=KIT.format(deviations=deviations))
    return pytester.runpytest_subprocess("-p", "anyio", "-rs", "-k", f"({checks}) and asyncio", "-q")


def test_a_deviation_that_has_gone_is_a_failure(pytester: pytest.Pytester) -> None:
    result = run_kit(pytester, "parents_are_made", test_parents_are_made="there are none here")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*XPASS(strict)*there are none here*"])


def test_what_is_skipped_is_told_by_clause_and_capability(pytester: pytest.Pytester) -> None:
    result = run_kit(pytester, "nothing_of_the_hosts_files or parents_are_made")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*clause 5.1: local-unisolated has no isolation*"])


def test_a_failed_check_shows_what_was_compared(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_kit="""
        import pytest
        from agenthost.testing import SandboxConformance


        class Test(SandboxConformance):
            @pytest.fixture
            async def sandbox(self):
                class Sandbox:
                    provider = "broken"
                    capabilities = None

                    async def write_file(self, path, data): ...
                    async def read_file(self, path):
                        return b"shallow"

                yield Sandbox()
        """
    )
    result = pytester.runpytest_subprocess("-p", "anyio", "-k", "parents_are_made and asyncio", "-q")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*assert b'shallow' == b'deep'*"])

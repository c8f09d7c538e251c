"""Each clause on agents has a provider that violates it and nothing else: the kit finds it."""

from __future__ import annotations

from contextlib import nullcontext

import anyio
import pytest
from conformance.judging import judge_all, sample, unexpected
from conformance.wrong_agents import WRONG_AGENTS, WrongAgent

from agenthost.adapter.boot import guest_zipapp, runner_zipapp
from agenthost.sandbox import Boot
from agenthost.testing import HostedAgentConformance
from agenthost.testing.conformance import checks_of
from agenthost.testing.conformance.hosting import Hosting

CHECKS = dict(checks_of(HostedAgentConformance))
AT_ONCE = 4
# A reap looks at all that is there, and would take what the killed host of another check has left.
REAPING = {"6.14": anyio.Lock()}


class Kit(HostedAgentConformance):
    """What is wrong may wait for what never comes; and several share two cores."""

    patience = 40.0


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """The defects are the same on both."""
    return "asyncio"


async def fails(wrong: WrongAgent, name: str) -> Exception | None:
    """Run one check with a provider that is wrong, and leave nothing of it. Returns what it raised."""
    kit = Kit()
    async with REAPING.get(CHECKS[name].number, nullcontext()), wrong.provider() as provider:
        try:
            await getattr(kit, name)(Hosting(provider, None, kit.spec, provider.name))
        except Exception as error:  # noqa: BLE001 - whatever a check raises is its failure
            return error
        except pytest.fail.Exception as error:
            return RuntimeError(str(error))
        finally:
            with anyio.CancelScope(shield=True):
                for backend in provider.made:
                    await backend.terminate()
    return None


def test_what_is_patched_is_there() -> None:
    programs = Boot(files={"guest.pyz": guest_zipapp(), "runner.pyz": runner_zipapp()}, config={})
    for wrong in WRONG_AGENTS:
        patch = wrong.provider.patch
        if patch is not None:
            name = f"{patch.program}.pyz"
            assert patch.apply(programs).files[name] != programs.files[name], wrong.name


def test_every_clause_has_agents_that_violate_it() -> None:
    assert {wrong.clause for wrong in WRONG_AGENTS} == {clause.number for clause in CHECKS.values()}


@pytest.mark.parametrize("third", [0, *(pytest.param(third, marks=pytest.mark.full) for third in (1, 2))])
async def test_agents_that_violate_a_clause_fail_its_check(third: int) -> None:
    cases = [
        (wrong, name)
        for wrong in WRONG_AGENTS[third::3]
        for name, clause in CHECKS.items()
        if clause.number == wrong.clause
    ]
    judged = judge_all(cases, fails, at_once=AT_ONCE)
    caught = {wrong.clause async for wrong, _, error in judged if error is not None}
    assert caught == {wrong.clause for wrong, _ in cases}


@pytest.mark.full
async def test_agents_that_violate_a_clause_fail_no_other_check_that_is_not_named(
    pytestconfig: pytest.Config,
) -> None:
    cases = [
        (wrong, name)
        for wrong in WRONG_AGENTS
        for name, clause in CHECKS.items()
        if clause.number != wrong.clause
    ]
    assert (
        await unexpected(
            sample(pytestconfig, cases),
            fails,
            expected=lambda wrong, name: name in wrong.also,
            at_once=AT_ONCE,
        )
        == []
    )

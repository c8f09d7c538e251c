"""Each clause has a sandbox that violates it and nothing else: the kit finds it."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest
from conformance import judging, wrong_abilities, wrong_files, wrong_lives, wrong_programs
from conformance.wrapping import WRONG, WrappedProvider, Wrong

from agenthost import SandboxProvider, open_provider
from agenthost.testing import FakeProvider, SandboxConformance
from agenthost.testing.conformance import checks_of
from agenthost.testing.conformance.clauses import missing
from agenthost.testing.emulators.e2b import emulator

assert wrong_abilities
assert wrong_files
assert wrong_lives
assert wrong_programs
CHECKS = dict(checks_of(SandboxConformance))
AT_ONCE = 6


class Kit(SandboxConformance):
    """What is wrong may wait for what never comes; and several share two cores."""

    patience = 30.0


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """The defects are the same on both."""
    return "asyncio"


async def fails(kit: SandboxConformance, name: str, wrong: Wrong, inner: SandboxProvider) -> Exception | None:
    """Run one check on a sandbox that is wrong, and leave nothing of it. Returns what it raised."""
    check = getattr(kit, name)
    failed: list[Exception] = []
    with ExitStack() as stack:
        async with anyio.create_task_group() as tasks:
            provider = wrong.provider(inner, tasks, stack)
            try:
                given: dict[str, Any] = {"provider": provider}
                if "sandbox" in inspect.signature(check).parameters:
                    given = {"sandbox": await provider.create(kit.spec)}
                await check(**given)
            except Exception as error:  # noqa: BLE001 - whatever a check raises is its failure
                failed.append(error)
            except pytest.fail.Exception as error:
                failed.append(RuntimeError(str(error)))
            finally:
                with anyio.CancelScope(shield=True):
                    await end_all(provider)
                tasks.cancel_scope.cancel()
    return failed[0] if failed else None


async def end_all(provider: WrappedProvider) -> None:
    """End what was made, also what a check did not wait for."""
    for sandbox in provider.made:
        await sandbox.terminate()


def applies(name: str, provider: SandboxProvider) -> bool:
    return all(
        not isinstance(provider, FakeProvider)
        if need == "system"
        else missing(need, provider.capabilities) is None
        for need in CHECKS[name].needs
    )


@asynccontextmanager
async def providers() -> AsyncGenerator[Callable[[str], SandboxProvider | None]]:
    """Yield what returns a provider for a check, the quickest of those that have what it needs."""
    async with (
        open_provider("local") as local,
        emulator(friendly=True) as e2b,
        open_provider("e2b", **e2b.options) as able,
    ):
        # A fake one keeps the files of its sandboxes, so each check has its own. There is nothing to close.
        yield lambda name: next((one for one in (FakeProvider(), local, able) if applies(name, one)), None)


def test_every_clause_has_a_sandbox_that_violates_it() -> None:
    assert {wrong.clause for wrong in WRONG} == {clause.number for clause in CHECKS.values()}


async def test_what_violates_a_clause_fails_its_check() -> None:
    async with providers() as provider_for:
        cases = [
            (wrong, name)
            for wrong in WRONG
            for name, clause in CHECKS.items()
            if clause.number == wrong.clause and provider_for(name)
        ]

        async def judge(wrong: Wrong, name: str) -> Exception | None:
            provider = provider_for(name)
            assert provider is not None
            return await fails(Kit(), name, wrong, provider)

        judged = [
            (wrong.name, name, error)
            async for wrong, name, error in judging.judge_all(cases, judge, at_once=AT_ONCE)
        ]
    assert {"7.1", "7.2", "7.3"} <= {wrong.clause for wrong, _ in cases}
    caught = {(wrong, name) for wrong, name, error in judged if error is not None}
    # Each check finds something, and each thing that is wrong is found.
    assert {name for _, name in caught} == {name for _, name in cases}
    assert {wrong for wrong, _ in caught} == {wrong.name for wrong, _ in cases}


async def test_what_only_some_can_do_is_no_failure_where_nothing_is_wrong() -> None:
    right = Wrong("", WrappedProvider, {})
    async with providers() as provider_for:
        for name, clause in CHECKS.items():
            if clause.number.startswith("7."):
                provider = provider_for(name)
                assert provider is not None
                assert await fails(Kit(), name, right, provider) is None


@pytest.mark.full
async def test_what_violates_a_clause_fails_no_other_check_that_is_not_named(
    pytestconfig: pytest.Config,
) -> None:
    async with providers() as provider_for:
        cases = [
            (wrong, name)
            for wrong in WRONG
            for name, clause in CHECKS.items()
            if clause.number != wrong.clause and provider_for(name)
        ]

        async def judge(wrong: Wrong, name: str) -> Exception | None:
            provider = provider_for(name)
            assert provider is not None
            return await fails(Kit(), name, wrong, provider)

        unexpected = await judging.unexpected(
            judging.sample(pytestconfig, cases),
            judge,
            expected=lambda wrong, name: name in wrong.also,
            at_once=AT_ONCE,
        )
    assert not unexpected, "\n".join(unexpected)

"""A budget of bytes: never more than there is, in the order of asking, and who gives up loses none."""

from __future__ import annotations

import anyio
import pytest

from agenthost.agent.byte_budget import ByteBudget, Share

LIMIT = 20


async def test_shares_are_given_in_the_order_of_asking_and_a_small_one_does_not_overtake() -> None:
    budget = ByteBudget(10)
    got: list[int] = []

    async def want(amount: int) -> None:
        await budget.take(amount)
        got.append(amount)

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            await budget.take(6)
            tasks.start_soon(want, 9)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(want, 1)
            await anyio.wait_all_tasks_blocked()
            assert got == []
            budget.give(3)  # 7 of 10 are free
            await anyio.wait_all_tasks_blocked()
            assert got == []
            budget.give(3)
            await anyio.wait_all_tasks_blocked()
            assert sorted(got) == [1, 9]


@pytest.mark.parametrize("granted", [False, True])
async def test_who_gives_up_holds_nothing_and_lets_the_next_one_in(granted: bool) -> None:
    budget = ByteBudget(10)

    async def hold() -> None:
        with Share(budget) as share:
            await share.take(10)
            await anyio.sleep_forever()

    with anyio.fail_after(LIMIT):
        await budget.take(10)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hold)
            await anyio.wait_all_tasks_blocked()
            if granted:  # and it is cancelled before it runs again
                budget.give(10)
            tasks.cancel_scope.cancel()
        if not granted:
            budget.give(10)
        await budget.take(10)


async def test_a_share_goes_back_in_parts_and_at_the_end() -> None:
    budget = ByteBudget(10)
    with anyio.fail_after(LIMIT):
        with pytest.raises(RuntimeError), Share(budget) as share:
            await share.take(10)
            share.shrink(4)
            await budget.take(6)
            share.shrink(8)  # it holds less by now
            assert share.held == 4
            raise RuntimeError
        assert share.held == 0
        await budget.take(4)

"""Run many schedules of faults, several at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio

ScheduleT = TypeVar("ScheduleT")
ResultT = TypeVar("ResultT")


async def run_many(
    run: Callable[[ScheduleT], Awaitable[ResultT]],
    schedules: Sequence[ScheduleT],
    *,
    at_once: int,
    what: str = "schedules",
) -> list[ResultT]:
    """Run each schedule, ``at_once`` of them at a time, and return the results as they came.

    A schedule that fails does not stop the others, so that one run reports all that fail.

    Raises:
        ExceptionGroup: With the AssertionError of each schedule that failed; ``what`` names them.
    """
    waiting = iter(schedules)
    failures: list[AssertionError] = []
    results: list[ResultT] = []

    async def work() -> None:
        for schedule in waiting:
            try:
                results.append(await run(schedule))
            except AssertionError as error:
                failures.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(at_once):
            tasks.start_soon(work)
    if failures:
        raise ExceptionGroup(f"{len(failures)} of {len(schedules)} {what} failed", failures)
    return results

"""Runs many checks on many wrong things, several at once, because most of it is waiting."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from traceback import clear_frames
from typing import TypeVar

import anyio
import pytest

_SHARE = 25

W = TypeVar("W")


def sample(config: pytest.Config, cases: Sequence[tuple[W, str]]) -> Sequence[tuple[W, str]]:
    """Return a fixed twenty-fifth of the cases that are beside the point, or all with ``--all-pairs``."""
    return cases if config.getoption("--all-pairs") else cases[::_SHARE]


async def judge_all(
    cases: Sequence[tuple[W, str]],
    judge: Callable[[W, str], Awaitable[Exception | None]],
    *,
    at_once: int,
) -> AsyncGenerator[tuple[W, str, Exception | None]]:
    """Yield what each check, by name, says of each wrong thing: its error, or None where it passed.

    Args:
        cases: What is wrong, and the name of a check.
        judge: Runs one check and leaves nothing.
        at_once: How many run at the same time.
    """
    slots = anyio.CapacityLimiter(at_once)
    send, receive = anyio.create_memory_object_stream[tuple[W, str, Exception | None]](len(cases))

    async def one(wrong: W, name: str) -> None:
        async with slots:
            error = await judge(wrong, name)
            if error is not None:
                clear_frames(error.__traceback__)  # thousands of them, many with 50 MB in a local variable
            send.send_nowait((wrong, name, error))

    with send, receive:
        async with anyio.create_task_group() as tasks:
            for wrong, name in cases:
                tasks.start_soon(one, wrong, name)
        for _ in cases:
            yield await receive.receive()


async def unexpected(
    cases: Sequence[tuple[W, str]],
    judge: Callable[[W, str], Awaitable[Exception | None]],
    *,
    expected: Callable[[W, str], bool],
    at_once: int,
) -> list[str]:
    """Return what each check says of each wrong thing where it is not as expected: to fail, or not to.

    Several share the machine: what took too long is tried again, alone.
    """
    found: list[str] = []
    late: list[tuple[W, str]] = []
    async for wrong, name, error in judge_all(cases, judge, at_once=at_once):
        if isinstance(error, TimeoutError) and not expected(wrong, name):
            late.append((wrong, name))
        elif (error is not None) is not expected(wrong, name):
            found.append(f"{wrong}: {name}: {error!r}")
    for wrong, name in late:
        if (error := await judge(wrong, name)) is not None:
            found.append(f"{wrong}: {name}: {error!r}")
    return found

"""Waiting for what no event announces. Between two looks the processor is left to what is waited for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

T = TypeVar("T")

_LOOK_AGAIN = 0.01  # seconds


async def until(ask: Callable[[], Awaitable[T]], good: Callable[[T], bool]) -> T:
    """Ask until the answer is good, and return it. The caller bounds it by ``fail_after``."""
    while not good(answer := await ask()):  # noqa: ASYNC110 - no event tells it
        await anyio.sleep(_LOOK_AGAIN)
    return answer


async def until_true(condition: Callable[[], T]) -> T:
    """Look until a condition is true, and return what it gave. The caller bounds it by ``fail_after``."""
    while not (found := condition()):  # noqa: ASYNC110 - no event tells it
        await anyio.sleep(_LOOK_AGAIN)
    return found

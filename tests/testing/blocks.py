"""What every context manager of agenthost has to bear, and which ones there are."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import ModuleType
from typing import Any

import anyio
import pytest

Context = AbstractAsyncContextManager[Any]


class BodyError(Exception):
    """Raised by the block."""


async def in_tasks_of_their_own(*steps: Callable[[], Awaitable[object]]) -> None:
    """Run each step in a task of its own, one after the other."""

    async def run(step: Callable[[], Awaitable[object]]) -> None:
        await step()

    for step in steps:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run, step)


async def passes_an_exception_on(context: Context) -> None:
    """Check that an exception of the block arrives as it is."""
    error = BodyError("of the block")
    # Anything else that arrives is the defect.
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        async with context:
            raise error
    assert caught.value is error


async def is_left_in_another_task(context: Context) -> None:
    """Check that the block may be left in another task than it was entered in."""
    await in_tasks_of_their_own(context.__aenter__, lambda: context.__aexit__(None, None, None))


async def ends_when_cancelled(context: Context) -> None:
    """Check that a cancellation of the block ends as a cancellation."""
    with anyio.CancelScope() as scope:
        async with context:
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught


def context_managers(package: ModuleType, is_skipped: Callable[[str], bool]) -> list[tuple[str, str]]:
    """Return the async context managers below a package: of each, its module and its qualified name.

    Args:
        package: Where to look, in all modules.
        is_skipped: Says of a module, by its name, that it is not to be imported.
    """
    found: list[tuple[str, str]] = []
    for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if is_skipped(info.name):
            continue
        module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            if getattr(value, "__module__", None) != module.__name__ or name.startswith("_"):
                continue
            if inspect.isclass(value):
                names = [name] if "__aenter__" in vars(value) else []
                names += [f"{name}.{one}" for one, member in vars(value).items() if _opens(one, member)]
            else:
                names = [name] if _opens(name, value) else []
            found += [(module.__name__, one) for one in names]
    return found


def _opens(name: str, value: object) -> bool:
    inner = getattr(value, "__wrapped__", None)
    return not name.startswith("_") and inspect.isasyncgenfunction(inner)

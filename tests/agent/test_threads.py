"""Work in a thread of its own: its result, its error, and what a cancellation does."""

from __future__ import annotations

import contextvars
import os
import subprocess
import sys
import threading

import anyio
import pytest

from agenthost.threads import in_thread

LIMIT = 20


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_the_result_comes_back_and_the_context_goes_along() -> None:
    variable = contextvars.ContextVar("variable", default="")
    variable.set("told")
    before = open_files()
    with anyio.fail_after(LIMIT):
        assert await in_thread(lambda: (variable.get(), threading.current_thread().daemon)) == ("told", True)
    assert open_files() == before


async def test_what_it_raises_is_raised_here() -> None:
    def fail() -> None:
        raise ValueError("of the thread")

    with anyio.fail_after(LIMIT):
        with pytest.raises(ValueError, match="of the thread"):
            await in_thread(fail)


@pytest.mark.parametrize("abandon", [False, True])
async def test_a_cancellation_waits_for_it_unless_it_may_be_abandoned(abandon: bool) -> None:
    go_on, over = threading.Event(), threading.Event()
    left: list[str] = []

    def work() -> None:
        go_on.wait()
        over.set()

    async def wait() -> None:
        try:
            await in_thread(work, abandon=abandon)
        finally:
            left.append("left")

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await anyio.wait_all_tasks_blocked()
                assert left == (["left"] if abandon else [])
                go_on.set()
        assert over.wait(LIMIT)


def test_a_thread_that_goes_on_does_not_hold_up_the_programs_end() -> None:
    program = (
        "import anyio, threading\n"
        "from agenthost.threads import in_thread\n"
        "async def main():\n"
        "    with anyio.move_on_after(0):\n"
        "        await in_thread(threading.Event().wait, abandon=True)\n"
        "    print('over')\n"
        "anyio.run(main)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=LIMIT, check=True)
    assert done.stdout == b"over\n"

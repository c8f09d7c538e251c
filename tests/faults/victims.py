"""The processes of this run's sandboxes by their role, to be killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

from support.processes import FoundProcess, processes_of, wait_until_gone

# What gives a role away in a command line, and what must not be there.
ROLES: dict[str, tuple[str, str]] = {
    "keeper": ("for part in", "guest.pyz"),
    "sandbox": ("bwrap --args", "\0"),
    "guest": ("guest.pyz serve", "bwrap --args"),
    "runner": ("runner.pyz", "bwrap --args"),
    "cli": ("--output-format stream-json", "\0"),
}
_LOOK_SECONDS = 0.002


def all_of_this_run() -> list[FoundProcess]:
    """Return every process that a sandbox of this run consists of."""
    marker = f"AGENTHOST_TEST_RUN={os.environ['AGENTHOST_TEST_RUN']}"
    return list(processes_of(marker, (os.environ["AGENTHOST_STATE_DIR"],)))


def find(role: str) -> list[int]:
    """Return the processes that have a role, oldest first."""
    wanted, unwanted = ROLES[role]
    return [
        process.pid
        for process in all_of_this_run()
        if wanted in process.cmdline and unwanted not in process.cmdline
    ]


def kill(role: str) -> bool:
    """Kill by SIGKILL, oldest first, until no process has the role; False where there was none.

    One is not enough: a keeper that has just detached still has the process beside it that started it.
    """
    killed = False
    while pids := find(role):
        try:
            os.kill(pids[0], signal.SIGKILL)
            killed = True
        except ProcessLookupError:
            continue
    return killed


@contextmanager
def killer(role: str, delay: float) -> Generator[threading.Event]:
    """In the block, kill a role so many seconds after it appeared. The event: it was killed."""
    done, killed = threading.Event(), threading.Event()

    def work() -> None:
        while not done.is_set():
            if find(role):
                done.wait(delay)
                if kill(role):
                    killed.set()
                return
            time.sleep(_LOOK_SECONDS)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield killed
    finally:
        done.set()
        thread.join()


def left_after(seconds: float) -> list[str]:
    """Return what is still there when that many seconds were over, or nothing as soon as all has gone."""
    wait_until_gone([process.pid for process in all_of_this_run()], seconds)
    return [str(process) for process in all_of_this_run()]

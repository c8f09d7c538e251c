"""A command that is told to stop cleans up and says by which signal it ended."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Generator
from contextlib import ExitStack

import anyio
import pytest

from agenthost.cli.stopping import run_until_stopped

Start = Callable[..., subprocess.Popen[str]]

PROGRAM = textwrap.dedent(
    """
    import signal, sys
    import anyio
    from agenthost.cli.stopping import StoppedError, run_until_stopped

    async def main():
        try:
            print("started", flush=True)
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                print("cleaning", flush=True)
                if "slow" in sys.argv:
                    while sys.stdin.readline() != "go\\n":
                        pass
                await anyio.lowlevel.checkpoint()
                print("clean", flush=True)

    if "ignored" in sys.argv:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run_until_stopped(main)
    except StoppedError as stopped:
        print("stopped by", stopped.signal, flush=True)
    """
)


@pytest.fixture
def started() -> Generator[Start]:
    """Start PROGRAM, and kill what a test that fails has left of it."""
    with ExitStack() as stack:

        def start(*arguments: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n"
            return process

        yield start


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_cancels_and_cleanup_runs_to_its_end(started: Start, number: signal.Signals) -> None:
    process = started()
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert output == f"cleaning\nclean\nstopped by {int(number)}\n"
    assert "stopping: the sandbox is being ended" in errors
    assert "Traceback" not in errors


def test_a_second_signal_does_not_cut_the_cleanup_short(started: Start) -> None:
    process = started("slow")
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "cleaning\n"
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate("go\n", timeout=60)
    assert output == "clean\nstopped by 2\n"
    assert "Traceback" not in errors


def test_a_signal_that_is_ignored_stays_ignored(started: Start) -> None:
    process = started("ignored")
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert output.endswith("stopped by 15\n")


def test_results_and_errors_come_out_as_they_are() -> None:
    async def works() -> int:
        await anyio.lowlevel.checkpoint()
        return 7

    async def fails() -> int:
        await anyio.lowlevel.checkpoint()
        raise KeyError("mine")

    assert run_until_stopped(works) == 7
    with pytest.raises(KeyError, match="mine"):
        run_until_stopped(fails)

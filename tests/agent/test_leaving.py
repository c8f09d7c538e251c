"""Leaving in a hurry: what breaks the block off, and that nothing is left all the same."""

from __future__ import annotations

import asyncio  # noqa: TID251 - its own cancel() is what is tested: it knows nothing of anyio's shields
import os
import signal
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from support.hosting import sandboxes_of
from support.preloaded import Program, run_preloaded, run_to_end
from support.processes import processes_of, wait_until_gone

from agenthost import HostedAgent, NetworkPolicy, SandboxSpec
from agenthost.errors import ConfigError
from agenthost.testing import FakeCLI

LIMIT = 120
PLAIN = "local-unisolated"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_asyncios_own_cancel_does_not_break_the_leaving_off(anyio_backend: str, tmp_path: Path) -> None:
    assert anyio_backend == "asyncio"
    options = {"cli_path": FakeCLI().write(tmp_path / "claude")}
    leaving = asyncio.Event()

    async def hold() -> None:
        async with HostedAgent(options, provider=PLAIN, on_progress=watch):
            pass

    def watch(progress: Any) -> None:
        if progress.stage == "ready":
            asyncio.get_running_loop().call_soon(leaving.set)

    with anyio.fail_after(LIMIT):
        task = asyncio.get_running_loop().create_task(hold())
        await leaving.wait()
        while not task.done():  # again and again, wherever it is
            task.cancel()
            await anyio.lowlevel.checkpoint()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await sandboxes_of(PLAIN) == []


async def test_a_program_that_never_leaves_the_block_leaves_no_sandbox() -> None:
    program = (
        "import asyncio, agenthost\n"
        "loop = asyncio.new_event_loop()\n"
        "agent = agenthost.HostedAgent(provider='local')\n"
        "loop.run_until_complete(agent.connect())\n"
        "print(agent.sandbox.id, flush=True)\n"
        "raise SystemExit(3)\n"
    )
    env = {**os.environ, "ANTHROPIC_API_KEY": "sk-ant-of-the-host"}
    with anyio.fail_after(LIMIT):
        done = await run_to_end(["python", "-c", program], env=env)
        assert done.exit_code == 3
        assert done.stdout.startswith("ah-")
        assert await sandboxes_of("local") == []


@pytest.mark.parametrize("network", [None, NetworkPolicy.none()])
async def test_a_key_inside_needs_a_network_there(network: NetworkPolicy | None) -> None:
    spec = SandboxSpec(network=network)
    with anyio.fail_after(LIMIT):
        with pytest.raises(ConfigError, match=r"NetworkPolicy\.open"):
            await HostedAgent(provider="local", credentials="env", spec=spec).connect()
        assert await sandboxes_of("local") == []


@pytest.mark.parametrize(
    "times", [1, pytest.param(2, marks=pytest.mark.full), pytest.param(3, marks=pytest.mark.full)]
)
async def test_a_program_that_is_interrupted_leaves_no_sandbox(anyio_backend: str, times: int) -> None:
    program = (
        "import sys, anyio, agenthost\n"
        "async def main():\n"
        "    async with agenthost.HostedAgent(provider='local'):\n"
        "        print('up', flush=True)\n"
        "        await anyio.sleep_forever()\n"
        f"anyio.run(main, backend={anyio_backend!r})\n"
    )
    env = {**os.environ, "ANTHROPIC_API_KEY": "sk-ant-of-the-host"}
    with anyio.fail_after(LIMIT):
        async with run_preloaded(["python", "-c", program], env=env) as host:
            assert await host.line() == "up"
            for _ in range(times):
                host.send_signal(signal.SIGINT)
            # One is enough: only a second can cost asyncio a wake-up.
            assert (await host.wait() if times == 1 else await pressed_until_it_ends(host)) != 0
        assert await sandboxes_of("local") == []


async def pressed_until_it_ends(host: Program) -> int:
    """Return the exit code. A second Ctrl-C can cost asyncio a wake-up, in any program: press again then."""
    for _ in range(4):
        with anyio.move_on_after(LIMIT / 8):
            return await host.wait()
        host.send_signal(signal.SIGINT)
    host.kill()
    return 0


INTERRUPTED_AT = """
import atexit, subprocess, sys, anyio, agenthost
from agenthost.owned import own

def interrupt(frame, event, _):
    name = frame.f_code.co_name
    if frame.f_globals["__name__"] in ("subprocess", "agenthost.owned") and (name, event) == WHERE:
        sys.setprofile(None)
        print("interrupted", flush=True)
        raise KeyboardInterrupt

async def main():
    async with agenthost.open_provider("local") as provider:
        sandbox = await provider.create(agenthost.SandboxSpec())
        own("local", sandbox.id, opened_as="local")  # as an agent does that cannot end the sandbox any more
    atexit.register(sys.setprofile, interrupt)  # runs before what ends the sandbox

WHERE = tuple(sys.argv[1:])
anyio.run(main)
"""


@pytest.mark.parametrize(
    "where",
    [("_order", "call"), ("__init__", "call"), ("_execute_child", "return"), ("wait", "call")],
    ids=" at its ".join,
)
async def test_an_interrupt_of_the_programs_end_leaves_no_sandbox(where: tuple[str, str]) -> None:
    with anyio.fail_after(LIMIT):
        async with run_preloaded(["python", "-c", INTERRUPTED_AT, *where], env=os.environ) as host:
            assert await host.line() == "interrupted"
            await host.wait()
        await no_process_is_left()
        assert await sandboxes_of("local") == []


BROKEN_OFF = """
import asyncio, atexit, signal, sys, agenthost

def second(*_):
    raise KeyboardInterrupt

def fourth():  # in a moment, while the program's end ends the sandbox
    signal.signal(signal.SIGALRM, second)
    signal.setitimer(signal.ITIMER_REAL, 0.05)

async def third():
    try:
        await asyncio.sleep(1e6)
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None

async def main():
    async with agenthost.HostedAgent(provider="local") as agent:
        print(agent.sandbox.id, flush=True)
        if "fourth" in sys.argv:
            atexit.register(fourth)
        task = asyncio.create_task(third())
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(second)
        await asyncio.sleep(1e6)

asyncio.run(main())
"""


@pytest.mark.parametrize("more", [[], ["fourth"]], ids=["twice", "and at its end"])
async def test_a_program_that_is_broken_off_while_it_is_cleaned_up_ends_and_leaves_no_sandbox(
    more: list[str],
) -> None:
    env = {**os.environ, "ANTHROPIC_API_KEY": "sk-ant-of-the-host"}
    with anyio.fail_after(LIMIT):
        async with run_preloaded(["python", "-c", BROKEN_OFF, *more], env=env) as host:
            assert (await host.line()).startswith("ah-")
            assert await host.wait() != 0
        await no_process_is_left()
        assert await sandboxes_of("local") == []


async def no_process_is_left() -> None:
    """Return when the process that ends sandboxes has ended too: the program may not have waited for it."""
    marker = f"AGENTHOST_TEST_RUN={os.environ['AGENTHOST_TEST_RUN']}"
    still = processes_of(marker, (os.environ["AGENTHOST_STATE_DIR"],))
    await anyio.to_thread.run_sync(wait_until_gone, [process.pid for process in still], LIMIT / 4)

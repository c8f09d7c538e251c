"""A host that is killed leaves its sandbox to the keeper, and its agent to whoever has the ref."""

from __future__ import annotations

import os
import signal
from contextlib import AsyncExitStack
from typing import Any

import anyio
import anyio.to_thread
import pytest
from claude_agent_sdk import ResultMessage
from support.hosting import sandboxes_of
from support.preloaded import Program, run_preloaded, run_to_end
from support.processes import FoundProcess, processes_of, wait_until_gone

from agenthost import HostedAgent
from agenthost.testing import ModelRequest, Stall, Text, Turn

LIMIT = 120
LIFETIME = 15.0  # seconds, from the sandbox's start

HOST = """
import sys, anyio, agenthost
from claude_agent_sdk import StreamEvent

async def main():
    options = {"include_partial_messages": True}
    spec = agenthost.SandboxSpec(max_lifetime=float(sys.argv[2]))
    async with agenthost.HostedAgent(options, provider="local", spec=spec) as agent:
        await agent.query("go")
        async for message in agent.receive_messages():
            if isinstance(message, StreamEvent):
                print(agent.sandbox.id, flush=True)

anyio.run(main, backend=sys.argv[1])
"""

# The kill falls between the end of the agent and the end of its sandbox.
LEAVING = """
import os, signal, sys, anyio, agenthost
from agenthost.link.client import GuestSandbox

async def killed(self):
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    GuestSandbox.terminate = killed
    async with agenthost.HostedAgent.attach(sys.argv[2]) as agent:
        async for message in agent.receive_messages():
            pass

anyio.run(main, backend=sys.argv[1])
"""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """The hosts that are killed are programs of their own, one on each backend."""
    return "asyncio"


def thinks_for_ever(_: ModelRequest) -> Turn:
    return Turn(Text("Let me think"), Stall())


def left() -> list[FoundProcess]:
    """Return every process of this run of the tests."""
    marker = f"AGENTHOST_TEST_RUN={os.environ['AGENTHOST_TEST_RUN']}"
    return list(processes_of(marker, (os.environ["AGENTHOST_STATE_DIR"],)))


async def test_killed_in_the_middle_of_a_turn_nothing_outlives_the_sandboxs_lifetime(
    script: Any, pytestconfig: pytest.Config
) -> None:
    backends = ("asyncio", "trio") if pytestconfig.getoption("--full") else ("asyncio",)
    with anyio.fail_after(LIMIT):
        async with script(thinks_for_ever), AsyncExitStack() as stack:
            hosts: list[Program] = []
            for backend in backends:
                argv = ["python", "-c", HOST, backend, str(LIFETIME)]
                program = run_preloaded(argv, env=os.environ, stderr=None)
                hosts.append(await stack.enter_async_context(program))
            ids = sorted([await host.line() for host in hosts])
            for host in hosts:
                host.kill()
            for host in hosts:
                await host.wait()

            # Losing the host ends nothing by itself: its sandbox goes on, with a CLI in it.
            running = left()
            assert await sandboxes_of("local") == ids
            assert sum("claude" in process.cmdline.split(" ")[0] for process in running) == len(hosts)

            pids = [process.pid for process in running]
            await anyio.to_thread.run_sync(wait_until_gone, pids, LIMIT)
            assert await sandboxes_of("local") == []
            assert [str(process) for process in left()] == []
            assert os.listdir(os.path.join(os.environ["AGENTHOST_STATE_DIR"], "local")) == []


@pytest.mark.parametrize("backend", ["asyncio", pytest.param("trio", marks=pytest.mark.full)])
async def test_killed_between_the_agents_end_and_the_sandboxs_the_ref_still_leads_to_both(
    script: Any, backend: str
) -> None:
    with anyio.fail_after(LIMIT):
        async with script(Text("Done.")):
            async with HostedAgent({}, provider="local") as agent:
                await agent.query("go")
                await agent.finish_input()
                ref = await agent.detach()
            host = await run_to_end(["python", "-c", LEAVING, backend, ref.to_json()])
            assert host.exit_code == -signal.SIGKILL
            assert await sandboxes_of("local") == [ref.sandbox]
            async with HostedAgent.attach(ref) as heir:
                messages = [message async for message in heir.receive_messages()]
    assert isinstance(messages[-1], ResultMessage)
    assert messages[-1].result == "Done."
    assert await sandboxes_of("local") == []

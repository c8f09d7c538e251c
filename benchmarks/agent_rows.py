"""A hosted agent beside the bare SDK, with the same scripted model."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from claude_agent_sdk import AssistantMessage, ClaudeAgentOptions, ClaudeSDKClient, StreamEvent
from measure import Row, in_turns

import agenthost
from agenthost import HostedAgent, SandboxSpec, open_provider

_PROGRAMS = Path(__file__).parent / "programs"
_DELTAS = 20_000
_KEY = "sk-ant-scripted"


async def rows(rounds: int, site: str | None = None) -> AsyncIterator[Row]:
    """Measure all; ``site`` is a directory with the SDK and mcp<2, as one would bake it into an image."""
    with model_server() as url, tempfile.TemporaryDirectory() as home, environment(url, home):
        yield await _fresh_program(rounds)
        yield await _cold(rounds)
        if site is not None:
            yield await _cold_with_site(site, rounds)
        yield await _prewarmed(rounds)
        yield await _second_agent(rounds)
        yield await _live_turn(rounds * 3)
        yield await _partial_messages(max(1, rounds // 2))


@contextmanager
def model_server() -> Generator[str]:
    """Run the scripted model in a process of its own; yield its address."""
    argv = [sys.executable, str(_PROGRAMS / "model_server.py")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.stdin.close()


@contextmanager
def environment(url: str, home: str) -> Generator[None]:
    """Give both sides the same: what SafeDefaults sets for a hosted agent, the bare SDK gets here."""
    added = {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": _KEY,
        "CLAUDE_CONFIG_DIR": home,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
    }
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def options(*, partial: bool = False) -> ClaudeAgentOptions:
    """Return the same options for both sides."""
    return ClaudeAgentOptions(
        setting_sources=[],
        max_turns=20,
        max_buffer_size=64 * 1024 * 1024,
        include_partial_messages=partial,
        strict_mcp_config=True,
    )


async def _time_to_message(agent: HostedAgent | ClaudeSDKClient) -> float:
    """Return the seconds from the start to the first assistant message."""
    began = time.perf_counter()
    try:
        await agent.connect()
        await agent.query("hi")
        async for message in agent.receive_response():
            if isinstance(message, AssistantMessage):
                return time.perf_counter() - began
    finally:
        await agent.disconnect()
    raise AssertionError("no assistant message came")


async def _fresh_program(rounds: int) -> Row:
    async def once(program: str) -> float:
        return _time_to_first(program)

    a, b = await in_turns(lambda: once("hosted_program.py"), lambda: once("bare_program.py"), rounds)
    return _row("fresh program to first message", a, b, goal=0.95, rounds=rounds)


def _time_to_first(program: str) -> float:
    began = time.perf_counter()
    argv = [sys.executable, str(_PROGRAMS / program)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        took = time.perf_counter() - began
        assert line == "first\n", f"{program} said {line!r}"
    assert process.returncode == 0
    return took


async def _bare_start() -> float:
    return await _time_to_message(ClaudeSDKClient(options()))


async def _hosted_start() -> float:
    return await _time_to_message(HostedAgent(options(), provider="local"))


async def _cold(rounds: int) -> Row:
    a, b = await in_turns(_hosted_start, _bare_start, rounds)
    return _row("long-lived host, cold, to first message", a, b, goal=1.9, rounds=rounds)


async def _cold_with_site(site: str, rounds: int) -> Row:
    async with open_provider("local", site=site) as provider:

        async def ours() -> float:
            return await _time_to_message(HostedAgent(options(), provider=provider))

        a, b = await in_turns(ours, _bare_start, rounds)
    return _row("the same, baked with mcp<2", a, b, goal=2.0, rounds=rounds)


async def _prewarmed(rounds: int) -> Row:
    async def ours() -> float:
        async with agenthost.prewarm(provider="local") as warm:
            await warm.wait_booted()
            return await _hosted_start()

    a, b = await in_turns(ours, _bare_start, rounds)
    return _row("booted runner waiting, to first message", a, b, goal=0.9, rounds=rounds)


async def _second_agent(rounds: int) -> Row:
    first: list[float] = []
    second: list[float] = []
    async with open_provider("local") as provider:
        for number in range(rounds + 1):
            box = await provider.create(SandboxSpec())
            try:
                pair = [await _time_to_message(HostedAgent(options(), sandbox=box)) for _ in range(2)]
            finally:
                await box.terminate()
            if number:
                first.append(pair[0])
                second.append(pair[1])
    return Row(
        group="agent", name="the second agent in a sandbox", unit="s", ours=statistics.median(second),
        baseline=statistics.median(first), baseline_name="the first", goal=0.6, rounds=rounds,
    )  # fmt: skip


@asynccontextmanager
async def _both(*, partial: bool = False) -> AsyncGenerator[tuple[HostedAgent, ClaudeSDKClient]]:
    same = options(partial=partial)
    async with HostedAgent(same, provider="local") as hosted, ClaudeSDKClient(same) as bare:
        yield hosted, bare


async def _live_turn(rounds: int) -> Row:
    async def turn(agent: HostedAgent | ClaudeSDKClient) -> float:
        began = time.perf_counter()
        await agent.query("hi")
        async for _ in agent.receive_response():
            pass
        return time.perf_counter() - began

    async with _both() as (hosted, bare):
        a, b = await in_turns(lambda: turn(hosted), lambda: turn(bare), rounds)
    return _row("one turn on a live agent", a, b, goal=1.15, rounds=rounds, unit="ms", scale=1e3)


async def _partial_messages(rounds: int) -> Row:
    async def rate(agent: HostedAgent | ClaudeSDKClient) -> float:
        began = time.perf_counter()
        await agent.query(f"deltas {_DELTAS}")
        count = 0
        async for message in agent.receive_response():
            count += isinstance(message, StreamEvent)
        assert count >= _DELTAS, f"{count} events of {_DELTAS}"
        return count / (time.perf_counter() - began)

    async with _both(partial=True) as (hosted, bare):
        a, b = await in_turns(lambda: rate(hosted), lambda: rate(bare), rounds)
    return Row(
        group="agent", name=f"a turn of {_DELTAS:,} partial messages", unit="events/s", ours=a, baseline=b,
        baseline_name="bare SDK", goal=0.95, higher_is_better=True, rounds=rounds,
    )  # fmt: skip


def _row(
    name: str, ours: float, bare: float, *, goal: float, rounds: int, unit: str = "s", scale: float = 1.0
) -> Row:
    return Row(
        group="agent", name=name, unit=unit, ours=ours * scale, baseline=bare * scale,
        baseline_name="bare SDK", goal=goal, rounds=rounds,
    )  # fmt: skip

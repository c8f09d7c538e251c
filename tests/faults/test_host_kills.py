"""A host is killed wherever it is: nothing outlives the sandbox's lifetime, and another host can go on."""

from __future__ import annotations

import json
import os
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from claude_agent_sdk import ResultMessage
from faults import victims
from faults.conversations import retries
from support.hosting import allow, sandboxes_of, scripted
from support.messages import texts
from support.preloaded import Program, run_preloaded

from agenthost import HostedAgent, open_provider
from agenthost.testing import FakeCLI, Hold, Text, Turn

PROGRAM = Path(__file__).with_name("mortal_host.py")
LIMIT = 120.0
LIFETIME = 20.0  # seconds of a sandbox whose host is killed
AT_ONCE = 3
LINE = 1024 * 1024  # bytes, at most
STAGES = ("sandbox", "agent", "ready", "turn", "callback", "detaching", "detached", "closing")
CASES = [
    *((stage, backend, 0) for stage, backend in zip(STAGES, ["asyncio", "trio"] * 4, strict=True)),
]
# In parts, each of which has LIMIT seconds.
SEEDS = [
    0,
    pytest.param(1, marks=pytest.mark.full),
    *(pytest.param(seed, marks=pytest.mark.deep) for seed in range(2, 9)),
]
MORE = [[(stage, backend, seed) for stage in STAGES] for backend in ("asyncio", "trio") for seed in (1, 2)]


class Host:
    """A program that hosts an agent."""

    def __init__(self, process: Program) -> None:
        self._process = process
        self._lines = BufferedByteReceiveStream(process.stdout)

    async def lines(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what it tells."""
        while True:
            yield json.loads(await self._lines.receive_until(b"\n", LINE))

    async def reach(self, stage: str, count: int = 1) -> list[dict[str, Any]]:
        """Return what it told until it was at a stage for the n-th time."""
        told: list[dict[str, Any]] = []
        while sum(line["at"] == stage for line in told) < count:
            told.append(json.loads(await self._lines.receive_until(b"\n", LINE)))
        return told

    async def kill(self) -> list[dict[str, Any]]:
        """Kill it, and return what it had told beside."""
        self._process.kill()
        await self._process.wait()
        told: list[dict[str, Any]] = []
        while True:
            try:
                told.append(json.loads(await self._lines.receive_until(b"\n", LINE)))
            except (anyio.EndOfStream, anyio.IncompleteRead):
                return told


@asynccontextmanager
async def host_of(
    workspace: Path, prompt: str, *how: str, backend: str, lifetime: float = LIFETIME
) -> AsyncGenerator[Host]:
    """Run a host."""
    argv = ["python", str(PROGRAM), backend, str(lifetime), "/workspace/claude", str(workspace), prompt, *how]
    async with run_preloaded(argv, env=os.environ, stderr=None) as process:
        try:
            yield Host(process)
        finally:
            process.kill()


@pytest.fixture
def anyio_backend() -> str:
    """The hosts that are killed are programs of their own, on either backend."""
    return "asyncio"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Return a directory with a FakeCLI in it."""
    directory = tmp_path / "workspace"
    directory.mkdir()
    (directory / "claude").write_bytes(FakeCLI().source())
    (directory / "claude").chmod(0o755)
    return directory


async def nothing_is_left(seconds: float) -> None:
    assert await anyio.to_thread.run_sync(victims.left_after, seconds) == []
    assert await sandboxes_of("local") == []
    assert os.listdir(os.path.join(os.environ["AGENTHOST_STATE_DIR"], "local")) == []


@pytest.mark.parametrize("cases", [CASES, *(pytest.param(more, marks=pytest.mark.deep) for more in MORE)])
async def test_killed_at_any_stage_nothing_outlives_the_lifetime(
    workspace: Path, cases: list[tuple[str, str, int]]
) -> None:
    """Several at a time, because most of it is waiting for the ends of their lives."""
    slots = anyio.CapacityLimiter(AT_ONCE)

    async def one(stage: str, backend: str, seed: int) -> None:
        chance = random.Random(f"{stage} {backend} {seed}")
        first = [FakeCLI.partials(200), FakeCLI.tool("Bash", ask=True)]
        talk = [FakeCLI.partials(200), FakeCLI.spawn("sleep", "54321")]
        prompt = FakeCLI.prompt(*(first if stage == "callback" else talk))
        how = ["detach"] if stage in ("detaching", "detached") else []
        async with slots, host_of(workspace, prompt, *how, backend=backend) as host:
            await host.reach(stage, chance.randint(1, 100) if stage == "turn" else 1)
            # A moment of its own in the stage; the host may have come to its end before that is over.
            with anyio.move_on_after(chance.uniform(0, 0.3)), suppress(anyio.IncompleteRead):
                async for _ in host.lines():
                    pass
            await host.kill()

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            for case in cases:
                tasks.start_soon(one, *case)
        await nothing_is_left(LIFETIME + 15)


@pytest.mark.parametrize(
    "seed",
    [
        0,
        pytest.param(1, marks=pytest.mark.full),
        *(pytest.param(n, marks=pytest.mark.deep) for n in range(2, 9)),
    ],
)
@pytest.mark.parametrize("where", ["turn", "callback"])
async def test_another_host_gets_each_message_once_from_the_cursor_that_the_killed_one_saved(
    workspace: Path, where: str, seed: int
) -> None:
    chance = random.Random(f"{where} {seed}")
    prompt = FakeCLI.prompt(
        FakeCLI.partials(300), FakeCLI.tool("Bash", ask=True), FakeCLI.partials(300), FakeCLI.text("Done.")
    )
    backend = ("asyncio", "trio")[seed % 2]
    with anyio.fail_after(LIMIT):
        async with host_of(workspace, prompt, backend=backend, lifetime=LIMIT) as host:
            told = await host.reach(where, chance.randint(1, 300) if where == "turn" else 1)
            told += await host.kill()
        seen = [line for line in told if line["at"] == "turn"]
        saved = chance.randrange(len(seen))  # it may have read on since it saved its place
        messages: list[Any] = []
        heir = HostedAgent.attach(
            seen[saved]["ref"], after=seen[saved]["cursor"], options={"can_use_tool": allow}
        )
        async with heir:
            async for message in heir.receive_messages():
                messages.append(message)
                if isinstance(message, ResultMessage):
                    break
        await nothing_is_left(10)
    numbers = [line["number"] for line in seen[: saved + 1]]
    numbers += [FakeCLI.number(message) for message in messages]
    assert numbers == list(range(1, len(numbers) + 1))
    assert texts(messages) == ["Done."]


async def test_an_answer_that_died_with_its_host_is_asked_again_once_and_the_journal_says_so(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = Turn(Text("What a", end=False), Hold(anyio.Event()), Text("lost end"))
    with anyio.fail_after(LIMIT):
        async with scripted(monkeypatch, half, Text("Again, whole.")) as model:
            prompt = FakeCLI.prompt(FakeCLI.model())
            async with host_of(workspace, prompt, backend="trio", lifetime=LIMIT) as host:
                # init, message_start, content_block_start, and the first delta
                told = await host.reach("turn", 4)
                await host.kill()
            async with HostedAgent.attach(told[-1]["ref"], after=told[-1]["cursor"]) as heir:
                messages = [message async for message in heir.receive_response()]
                async with open_provider("local") as provider:
                    sandbox: Any = await provider.get(heir.sandbox.id)
                    data = b""
                    async with sandbox.observe_agent(heir.ref.agent) as journal:
                        while len(data) < heir.cursor.offset:
                            data += await journal.receive()
        await nothing_is_left(10)

    events = [json.loads(line) for line in data.splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert sum(event.get("state") == "answer_repeated" for event in events) == 1
    assert len(model.turns) == 2
    assert retries(messages) == 1
    assert texts(messages) == ["Again, whole."]
    assert [FakeCLI.number(message) for message in messages] == list(range(5, 5 + len(messages)))

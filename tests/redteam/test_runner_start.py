"""A program that is inside already looks into the next runner while it starts."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from conformance.wrong_agents import Patch
from redteam.patched import ON_BOTH, STARTED_ANEW, Boxes, boxes_of

from agenthost.errors import BootstrapError
from agenthost.link.client import GuestSandbox

LIMIT = 60
# Tries to open what belongs to each new process, again and again, until it is told to stop.
WATCH = """
import os, select, sys
old = set(os.listdir("/proc"))
opened = {name: 0 for name in ("environ", "fd/0", "fd/1", "mem")}
print("watching", flush=True)
while not select.select([0], [], [], 0)[0]:
    for pid in set(filter(str.isdigit, os.listdir("/proc"))) - old:
        for name in opened:
            try:
                with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
                    opened[name] += name != "environ" or b"ANTHROPIC_API_KEY=" in file.read(1 << 20)
            except OSError:
                continue
import json
print(json.dumps(opened), flush=True)
"""

KILL = """
import os, signal
for pid in filter(str.isdigit, os.listdir("/proc")):
    if open(f"/proc/{pid}/cmdline", "rb").read().startswith(b"agenthost launcher"):
        os.kill(int(pid), signal.SIGKILL)
        print("killed")
"""

TEMPLATES = """
import os, signal
for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
    if open(f"/proc/{pid}/cmdline", "rb").read().startswith(b"agenthost template"):
        THEN
        print(pid)
"""

KEY = "environment of a starting runner read"
PIPES = "pipes of a starting runner opened"
MEMORY = "memory of a starting runner opened"
KILLED = "launcher of runners killed"
PARTS = {KEY: ("environ",), PIPES: ("fd/0", "fd/1"), MEMORY: ("mem",)}


@asynccontextmanager
async def watched(box: GuestSandbox) -> AsyncGenerator[dict[str, int]]:
    """Watch what starts in a block; tell behind it what could be opened, how often."""
    found: dict[str, int] = {}
    with anyio.fail_after(LIMIT):
        async with box.spawn(["python3", "-I", "-S", "-c", WATCH]) as process:
            assert await process.receive_stdout() == b"watching\n"
            yield found
            await process.send_stdin(b"stop")
            found.update(json.loads(await process.receive_stdout()))


async def start(box: GuestSandbox, name: str) -> None:
    """Start a runner, as far as its first event, and end it."""
    async with box.agent(name, env={}, model=True) as channel:
        assert await channel.receive()


async def templates(box: GuestSandbox, then: str = "pass") -> list[int]:
    """Return the pids of the templates inside; run a statement for each ``pid``."""
    found = await box.exec(["python3", "-I", "-S", "-c", TEMPLATES.replace("THEN", then)])
    return [int(pid) for pid in found.stdout.split()]


async def kill_launcher(box: GuestSandbox) -> None:
    """Kill what starts runners."""
    assert (await box.exec(["python3", "-I", "-S", "-c", KILL])).stdout == b"killed\n"


@pytest.fixture(scope="module", params=ON_BOTH)
def boxes(request: pytest.FixtureRequest) -> Boxes:
    """Give what makes sandboxes."""
    return boxes_of(request)


@pytest.fixture(scope="module")
async def seen(anyio_backend: str, boxes: Boxes) -> AsyncIterator[dict[str, int]]:
    """Tell what could be opened of two runners, and of the template that the second is forked from."""
    del anyio_backend
    async with boxes() as box:
        async with watched(box) as found:
            await start(box, "first")
        assert len(await templates(box)) == 1
        async with watched(box) as found_later:
            await start(box, "second")
        yield {part: found[part] + found_later[part] for part in found}


@pytest.fixture(scope="module")
async def seen_without(anyio_backend: str, boxes: Boxes) -> AsyncIterator[dict[str, int]]:
    """Tell what could be opened of runners that were started by exec."""
    del anyio_backend
    async with boxes(STARTED_ANEW) as box:
        async with watched(box) as found:
            for number in range(3):  # a watcher that gets no processor sees nothing
                await start(box, f"agent-{number}")
        yield found


@pytest.mark.parametrize(
    "mechanism",
    [
        pytest.param(name, marks=pytest.mark.attack("take over the next agent", name), id=name)
        for name in PARTS
    ],
)
async def test_a_runner_that_starts_is_closed_from_its_first_moment_on(
    seen: dict[str, int], mechanism: str
) -> None:
    assert [seen[part] for part in PARTS[mechanism]] == [0] * len(PARTS[mechanism])


@pytest.mark.parametrize(
    "mechanism", [pytest.param(name, marks=pytest.mark.control(name), id=name) for name in PARTS]
)
async def test_a_runner_that_is_started_by_exec_is_open_at_first(
    seen_without: dict[str, int], mechanism: str
) -> None:
    assert all(seen_without[part] for part in PARTS[mechanism])


@pytest.mark.attack("take over the next agent", KILLED)
@pytest.mark.parametrize("boxes", ["local"], indirect=True)  # elsewhere it is another user's
async def test_without_its_launcher_no_runner_starts_at_all(boxes: Boxes) -> None:
    async with boxes() as box:
        await kill_launcher(box)
        async with watched(box) as found:
            with anyio.fail_after(LIMIT), pytest.raises(BootstrapError, match="that starts agents was ended"):
                await start(box, "first")
        assert found["environ"] == 0


FALLS_BACK = Patch(
    "guest",
    "guest/process_calls.py",
    'raise CallError("Bootstrap", str(error)) from None',
    'process = self._keep(params, reply.link, lambda e: Spawned(params["argv"], cwd="/", env=e, user=None))',
)


@pytest.mark.control(KILLED)
@pytest.mark.parametrize("boxes", ["local"], indirect=True)
async def test_a_guest_that_starts_runners_itself_when_the_launcher_is_gone_gives_them_away(
    boxes: Boxes,
) -> None:
    async with boxes(FALLS_BACK) as box:
        await kill_launcher(box)
        async with watched(box) as found:
            for number in range(3):
                await start(box, f"agent-{number}")
        assert found["environ"] > 0


@pytest.mark.attack("take over the next agent", "template of runners killed or stopped")
@pytest.mark.parametrize("number", ["SIGKILL", "SIGSTOP"])
async def test_an_agent_starts_though_the_template_of_its_runner_is_killed_or_stopped(
    boxes: Boxes, number: str
) -> None:
    async with boxes() as box:
        await start(box, "first")
        assert len(await templates(box, f"os.kill(pid, signal.{number})")) == 1
        async with watched(box) as found:
            with anyio.fail_after(LIMIT):
                await start(box, "second")
                await start(box, "third")
        assert set(found.values()) == {0}


ONLY_FROM_TEMPLATES = Patch(
    "guest", "guest/launcher.py", '{**request, "anew": True}', '{**request, "anew": False}'
)


@pytest.mark.control("template of runners killed or stopped")
@pytest.mark.parametrize("boxes", ["local"], indirect=True)
async def test_without_another_way_a_template_that_is_stopped_stops_every_agent(boxes: Boxes) -> None:
    async with boxes(ONLY_FROM_TEMPLATES) as box:
        await start(box, "first")
        assert await templates(box, "os.kill(pid, signal.SIGSTOP)")
        with anyio.fail_after(LIMIT), pytest.raises(BootstrapError, match="does not answer"):
            await start(box, "second")


SCORES = """
import os
for pid in filter(str.isdigit, os.listdir("/proc")):
    if int(pid) == os.getpid():
        continue  # these words are in its own command
    try:
        command = open(f"/proc/{pid}/cmdline", "rb").read()
        score = open(f"/proc/{pid}/oom_score_adj").read().strip()
    except OSError:
        continue
    for name in (b"agenthost launcher", b"runner.pyz"):
        if name in command:
            print(name.decode(), score)
"""


async def test_out_of_memory_the_kernel_takes_a_runner_before_its_launcher(boxes: Boxes) -> None:
    async with boxes() as box, box.agent("first", env={}, model=True) as channel:
        assert await channel.receive()
        told = (await box.exec(["python3", "-I", "-S", "-c", SCORES])).stdout.decode().split("\n")
    assert sorted(told) == ["", "agenthost launcher 500", "runner.pyz 800"]

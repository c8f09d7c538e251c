"""examples/web_sse.py: the test is the browsers."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from examples.running import EXAMPLES, KEY, Example, start_example
from support.hosting import model_environment, sandboxes_of
from support.waiting import until

from agenthost import HostedAgent, message_from_json
from agenthost.testing import FakeCLI, Hold, ScriptedModel, Text, ToolUse

LIMIT = 120
NAME = "web_sse.py"


@dataclass(frozen=True, slots=True)
class Event:
    id: int
    name: str
    data: str


async def parse(lines: AsyncIterator[str]) -> AsyncGenerator[Event]:
    """Yield events as a browser finds them; one whose id is 0, for none, is no message of the agent."""
    fields: dict[str, str] = {}
    async for line in lines:
        if line:
            name, _, value = line.partition(": ")
            assert name not in fields
            fields[name] = value
            continue
        if "data" in fields:
            yield Event(int(fields.get("id", 0)), fields["event"], fields["data"])
        fields = {}


@dataclass(slots=True)
class Browser:
    """Knows where the server is, and the token."""

    http: httpx.AsyncClient

    @asynccontextmanager
    async def events(self, last: Event | None = None) -> AsyncGenerator[AsyncIterator[Event]]:
        """Read events, behind the last one that was seen."""
        headers = {"last-event-id": str(last.id)} if last else {}
        async with self.http.stream("GET", "/events", headers=headers) as response:
            assert response.status_code == 200
            assert response.headers["content-type"].startswith("text/event-stream")
            async with aclosing(parse(response.aiter_lines())) as events:
                yield events

    async def prompt(self, text: str) -> None:
        answer = await self.http.post("/prompt", json={"prompt": text})
        assert answer.status_code == 202


async def read_to(events: AsyncIterator[Event], name: str) -> list[Event]:
    """Return events up to and including the next of this name."""
    found: list[Event] = []
    async for event in events:
        found.append(event)
        if event.name == name:
            return found
    raise AssertionError(f"the stream ended before a {name}")


@asynccontextmanager
async def serving(model: ScriptedModel) -> AsyncGenerator[tuple[Example, Browser]]:
    async with start_example(NAME, "0", env=model_environment(model, KEY)) as example:
        found = re.fullmatch(r"open (http://127\.0\.0\.1:\d+/)#(\S+)", await example.line())
        assert found is not None
        headers = {"authorization": f"Bearer {found[2]}"}
        async with httpx.AsyncClient(
            base_url=found[1], headers=headers, trust_env=False, timeout=None
        ) as http:
            yield example, Browser(http)


async def links(example: Example) -> int:
    """Return how many unix sockets the server has: the driver has one to the sandbox, and each observer."""
    process = Path(f"/proc/{example.process.pid}")
    unix = {line.split()[6] for line in (process / "net/unix").read_text().splitlines()[1:]}
    count = 0
    for fd in (process / "fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            count += os.readlink(fd).removeprefix("socket:[").removesuffix("]") in unix
    return count


async def test_each_browser_gets_each_event_once_and_in_order_also_one_that_was_cut_off() -> None:
    gate = anyio.Event()
    script = [
        [Text("Looking."), ToolUse("Bash", {"command": "printf 'a\\r\\n\\n: b'"})],
        [Hold(gate), Text("Still looking."), ToolUse("Bash", {"command": "echo c"})],
        Text("Done."),
        Text("Again."),
    ]
    with anyio.fail_after(LIMIT):
        async with ScriptedModel(script, api_key=KEY) as model, serving(model) as (example, browser):
            async with browser.events() as events:
                await browser.prompt("Look around")
                cut_off = await read_to(events, "AssistantMessage")
            async with browser.events() as events, browser.events() as of_a_browser_that_does_not_read:
                steady = await read_to(events, "AssistantMessage")
                gate.set()
                steady += await read_to(events, "ResultMessage")
                async with browser.events(last=cut_off[-1]) as resumed:
                    cut_off += await read_to(resumed, "ResultMessage")
                    await browser.prompt("And again")
                    cut_off += await read_to(resumed, "ResultMessage")
                steady += await read_to(events, "ResultMessage")
                late = await read_to(of_a_browser_that_does_not_read, "ResultMessage")
                late += await read_to(of_a_browser_that_does_not_read, "ResultMessage")
            model.assert_played()
            assert [request.prompt for request in model.turns if not request.tool_results][-1] == "And again"
            await example.stop()

    assert cut_off == steady
    assert late == steady
    ids = [event.id for event in steady]
    assert ids == sorted(set(ids))
    assert [type(message_from_json(event.data)).__name__ for event in steady] == [
        event.name for event in steady
    ]
    said = "".join(event.data for event in steady)
    assert all(text in said for text in ("Looking.", "Still looking.", "Done.", "Again."))


async def test_a_browser_that_goes_away_leaves_nothing_and_neither_does_the_server() -> None:
    before = await sandboxes_of("local")
    with anyio.fail_after(LIMIT):
        async with (
            ScriptedModel([Text("Hello.")], api_key=KEY) as model,
            serving(model) as (example, browser),
        ):
            await browser.http.get("/")  # answered when the agent is there
            alone = await links(example)
            async with browser.events() as events:
                await browser.prompt("Hi")
                await read_to(events, "ResultMessage")
                assert await links(example) == alone + 1
            for _ in range(3):
                async with browser.events() as one, browser.events() as another:
                    assert await anext(one) == await anext(another)
            await until(lambda: links(example), lambda count: count == alone)

            async with browser.events() as events:
                await anext(events)
                await example.stop()  # it does not wait for browsers, and it tells them
                assert "server stops" in [event async for event in events][-1].data
    assert await sandboxes_of("local") == before


async def test_nobody_gets_in_without_the_token() -> None:
    with anyio.fail_after(LIMIT):
        async with ScriptedModel([], api_key=KEY) as model, serving(model) as (example, browser):
            token = browser.http.headers.pop("authorization").removeprefix("Bearer ")
            wrong = {"authorization": f"Bearer {token[:-1]}"}
            page = await browser.http.get("/")
            assert "EventSource" in page.text
            assert token not in page.text
            for headers in ({}, wrong, {"cookie": "agent_token=x"}, {"authorization": "Bearer \xe4"}):
                sent = httpx.Headers(headers, encoding="latin-1")
                assert (await browser.http.get("/events", headers=sent)).status_code == 401
            for headers in ({}, wrong, {"cookie": f"agent_token={token}"}):
                answer = await browser.http.post("/prompt", json={"prompt": "x"}, headers=headers)
                assert answer.status_code == 401

            cookie = {"cookie": f"agent_token={token}"}  # all that an EventSource can send
            async with browser.http.stream("GET", "/events", headers=cookie) as response:
                assert response.status_code == 200

            right = {"authorization": f"Bearer {token}"}
            for last in ("-1", "x", "1:2", "\xb2"):
                bad = httpx.Headers({**right, "last-event-id": last}, encoding="latin-1")
                assert (await browser.http.get("/events", headers=bad)).status_code == 400
            bodies: list[Any] = [{}, [], None, {"prompt": " "}, {"prompt": 1}]
            for body in bodies:
                answer = await browser.http.post("/prompt", json=body, headers=right)
                assert answer.status_code == 400
            await example.stop()


@pytest.fixture
def module() -> Any:
    """Load the example into this process."""
    spec = importlib.util.spec_from_file_location("web_sse", EXAMPLES / NAME)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def use(model: ScriptedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lead this process to a model."""
    for name, value in model_environment(model, KEY).items():
        monkeypatch.setenv(name, value)


async def test_pings_fall_between_messages_and_cost_none(
    module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PING_SECONDS", 0.001)
    monkeypatch.setattr(module, "TICK_SECONDS", 0.001)
    with anyio.fail_after(LIMIT):
        async with ScriptedModel([Text.deltas(500)], api_key=KEY) as model:
            use(model, monkeypatch)
            options: Any = {"include_partial_messages": True}
            async with HostedAgent(options, provider="local-unisolated") as agent:
                await agent.query("Talk")
                seen: list[str] = []
                pings = 0
                async with aclosing(module.server_sent_events(agent.ref, 0)) as events:
                    async for event in events:
                        pings += event == ": still here\n\n"
                        if event.startswith("id: "):
                            seen.append(event)
                        if "event: ResultMessage" in event:
                            break
                expected = [
                    f"id: {agent.cursor.seq}\nevent: {type(message).__name__}\n"
                    async for message in agent.receive_response()
                ]
    assert pings > 1
    assert [event.partition("data: ")[0] for event in seen] == expected
    assert len(expected) > 500


@pytest.mark.full
async def test_a_browser_that_was_away_for_too_long_is_told_what_it_has_missed(
    module: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cli = FakeCLI([FakeCLI.partials(300, 1_000_000)])  # more than a sandbox keeps
    options: Any = {"cli_path": cli.write(tmp_path / "claude"), "include_partial_messages": True}
    with anyio.fail_after(LIMIT):
        async with ScriptedModel([], api_key=KEY) as model:
            use(model, monkeypatch)
            async with HostedAgent(options, provider="local-unisolated") as agent:
                await agent.query("Talk")
                kept = {agent.cursor.seq async for _ in agent.receive_response()}
                seen: list[str] = []
                async with aclosing(module.server_sent_events(agent.ref, 0)) as events:
                    async for event in events:
                        seen.append(event[:80])
                        if "event: ResultMessage" in seen[-1]:
                            break
    retry, gap, *messages = seen
    assert retry.startswith("retry: ")
    assert gap.startswith("event: Gap\n")
    ids = [int(event.partition("\n")[0].removeprefix("id: ")) for event in messages]
    assert ids == sorted(kept)[-len(ids) :]
    assert 1 < len(ids) < len(kept)

"""An agent outlives its host: detached, taken over, observed, by this process or another."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from agent.turns import Unanswered, response, turn
from claude_agent_sdk import (
    ClaudeAgentOptions,
    InMemorySessionStore,
    MirrorErrorMessage,
    PermissionResultAllow,
    ResultMessage,
    ToolAnnotations,
    create_sdk_mcp_server,
    tool,
)
from support.hosting import allow
from support.lent import Lent
from support.messages import results
from support.waiting import until

from agenthost import (
    AgentRef,
    Cursor,
    HostedAgent,
    Limits,
    SandboxProvider,
    SandboxSpec,
    open_provider,
    owned,
)
from agenthost.errors import (
    ConfigError,
    GuestLostError,
    ReplayGapError,
    SandboxNotFoundError,
    SupersededError,
    UnsupportedError,
)
from agenthost.testing import FakeCLI, Hold, ModelRequest, Text, ToolUse

LIMIT = 120
PLAIN = "local-unisolated"


@pytest.mark.parametrize("provider", ["local", pytest.param(PLAIN, marks=pytest.mark.full)])
async def test_a_detached_agent_goes_on_where_it_was_read(script: Any, provider: str) -> None:
    with anyio.fail_after(LIMIT):
        # The second answer may be under way when the first host goes: it is then asked for once more.
        async with script(Text("One."), Text("Two."), Text("Two.")):
            async with HostedAgent({}, provider=provider) as first:
                await turn(first, "1")
                await first.query("2")  # arrives, though nobody waits for its answer here
                ref = await first.detach(keep_for=600)
                assert ref.cursor == first.cursor
            assert "sk-ant" not in ref.to_json()

            async with HostedAgent.attach(ref.to_json()) as second:
                assert second.session_id == first.session_id
                messages = await response(second)
                assert isinstance(messages[-1], ResultMessage)
                assert messages[-1].result == "Two."

            with pytest.raises(SandboxNotFoundError):  # it ended with the one that drove it last
                await HostedAgent.attach(ref).connect()


async def test_each_message_arrives_once_from_the_saved_cursor(script: Any) -> None:
    with anyio.fail_after(LIMIT):
        async with script(Text("One."), Text("Two.")), HostedAgent({}, provider=PLAIN) as agent:
            cursors: list[Cursor] = []
            messages: list[Any] = []
            for prompt in ("1", "2"):
                await agent.query(prompt)
                async for message in agent.receive_response():
                    messages.append(message)
                    cursors.append(agent.cursor)
            assert cursors == sorted(cursors, key=lambda one: one.seq)
            ref = agent.ref

            for place, after in ((0, None), (2, cursors[1]), (4, str(cursors[3])), (3, cursors[2].seq)):
                cursor = after if after is not None else Cursor()
                async with HostedAgent.attach(ref, role="observer", after=cursor) as reader:
                    seen = reader.receive_messages()
                    assert [await anext(seen) for _ in messages[place:]] == messages[place:]
            async with HostedAgent.attach(ref, role="observer", after="oldest") as reader:
                assert await anext(reader.receive_messages()) == messages[0]


async def test_a_cursor_of_another_agent_is_refused(script: Any) -> None:
    with anyio.fail_after(LIMIT):
        async with script(Text("One.")), HostedAgent({}, provider=PLAIN) as agent:
            messages = await turn(agent, "1")
            for after, error, text in (
                (Cursor(1, 7), ConfigError, "no event begins there"),
                (Cursor(1, 10**6), ReplayGapError, "has not come so far"),
            ):
                async with HostedAgent.attach(agent.ref, role="observer", after=after) as reader:
                    with pytest.raises(error, match=text):
                        await anext(reader.receive_messages())
            assert messages


async def test_a_ref_after_reading_from_a_number_or_the_oldest_names_a_place_of_its_own(script: Any) -> None:
    with anyio.fail_after(LIMIT):
        async with script(Text("One."), Text("Two.")):
            async with HostedAgent({}, provider=PLAIN) as first:
                await turn(first, "1")
                place = first.cursor
                await turn(first, "2")
                ref = await first.detach()
            async with HostedAgent.attach(ref, after=place.seq) as second:
                await second.get_server_info()  # what was skipped lies before this
                assert second.cursor == place
                again = await second.detach()
            async with HostedAgent.attach(again) as third:
                assert (await response(third))[-1].result == "Two."
                ref = await third.detach()
            async with HostedAgent.attach(ref, role="observer", after="oldest") as reader:
                await anext(reader.receive_messages())
                assert 0 < reader.cursor.offset < place.offset
            async with HostedAgent.attach(ref) as last:
                assert last.cursor == ref.cursor


async def test_a_driver_whose_cursor_leads_nowhere_ends_nothing(script: Any) -> None:
    with anyio.fail_after(LIMIT):
        async with script(Text("One.")):
            async with HostedAgent({}, provider=PLAIN) as first:
                ref = await first.detach()
            for after, error in ((Cursor(3, 99999), ReplayGapError), (Cursor(1, 7), ConfigError)):
                with pytest.raises(error):
                    await HostedAgent.attach(ref, after=after).connect()
            async with HostedAgent.attach(ref) as last:
                assert (await turn(last, "1"))[-1].result == "One."


async def test_an_agent_in_a_lent_sandbox_cannot_be_detached(script: Any) -> None:
    with anyio.fail_after(LIMIT):
        async with script(Text("One.")), open_provider(PLAIN) as provider:
            sandbox = await provider.create(SandboxSpec())
            lent = Lent(sandbox)
            lent.python = sys.executable  # which has the SDK
            async with HostedAgent({}, sandbox=lent) as agent:
                with pytest.raises(UnsupportedError, match="detach"):
                    await agent.detach()
                assert (await turn(agent, "1"))[-1].result == "One."  # nothing has changed
            await sandbox.terminate()


async def test_a_driver_without_the_agents_store_is_told_what_is_lost(script: Any) -> None:
    store = InMemorySessionStore()
    with anyio.fail_after(LIMIT):
        async with script(Text("One."), Text("Two.")):
            async with HostedAgent(ClaudeAgentOptions(session_store=store), provider=PLAIN) as first:
                await turn(first, "1")
                ref = await first.detach()
            async with HostedAgent.attach(ref) as second:
                lost = [one for one in await turn(second, "2") if isinstance(one, MirrorErrorMessage)]
                assert "no session_store" in lost[0].error


async def test_a_prompt_that_is_longer_than_an_agent_takes_is_refused(script: Any) -> None:
    with anyio.fail_after(LIMIT):
        async with script(Text("One.")), HostedAgent({}, provider=PLAIN) as agent:
            with pytest.raises(ConfigError, match="more than an agent takes"):
                await agent.query("x" * (129 << 20))
            assert (await turn(agent, "1"))[-1].result == "One."


async def test_an_observer_that_leaves_takes_no_sandbox_from_its_owner(script: Any) -> None:
    with anyio.fail_after(LIMIT):
        async with script(Text("One.")), HostedAgent({}, provider=PLAIN) as agent:
            async with HostedAgent.attach(agent.ref, role="observer"):
                pass
            assert agent.sandbox.id in owned.owned()


async def test_keep_for_extends_a_lease_and_no_renewal_shortens_it(script: Any) -> None:
    gate = anyio.Event()
    spec = SandboxSpec(lease=6)

    def held(_: ModelRequest) -> list[Any]:
        return [Hold(gate), Text("One.")]

    with anyio.fail_after(LIMIT):
        async with script(held, held), open_provider(PLAIN) as provider:
            async with HostedAgent({}, provider=provider, spec=spec) as agent:
                await agent.query("1")
                ref = await agent.detach(keep_for=60)
            ends = (await (await provider.get(ref.sandbox)).info()).expires_at
            assert ends is not None
            assert ends - time.time() > 30
            gate.set()
            async with HostedAgent.attach(ref, provider=provider) as agent:
                assert (await response(agent))[-1].result == "One."


async def test_an_observer_reads_and_steers_nothing(script: Any) -> None:
    with anyio.fail_after(LIMIT):
        async with script(Text("One.")), HostedAgent({}, provider=PLAIN) as agent:
            async with HostedAgent.attach(agent.ref, role="observer") as observer:
                messages = await turn(agent, "1")
                assert await response(observer) == messages
                for steer in (lambda: observer.query("x"), observer.interrupt, observer.finish_input):
                    with pytest.raises(ConfigError, match="observer only reads"):
                        await steer()
            assert (await agent.get_server_info()) is not None  # it lives


async def test_a_new_driver_supersedes_the_old_one_which_ends_nothing(script: Any) -> None:
    with anyio.fail_after(LIMIT):
        async with script(Text("One."), Text("Two.")):
            old = HostedAgent({}, provider=PLAIN)
            await old.connect()
            await turn(old, "1")
            async with HostedAgent.attach(old.ref) as new:
                with pytest.raises(SupersededError):
                    await anext(old.receive_messages())
                with pytest.raises(SupersededError):
                    await old.query("x")
                await old.disconnect()
                assert (await turn(new, "2"))[-1].result == "Two."


async def test_what_a_superseded_driver_was_asked_is_cancelled_there_and_asked_anew(script: Any) -> None:
    question = Unanswered()
    with anyio.fail_after(LIMIT):
        async with (
            script(ToolUse("Bash", {"command": "touch x; echo made"}), Text("Done.")),
            HostedAgent(ClaudeAgentOptions(can_use_tool=question.call), provider=PLAIN) as old,
        ):
            await old.query("go")
            await question.called.wait()
            async with HostedAgent.attach(old.ref, options={"can_use_tool": allow}) as new:
                assert results(await response(new)) == ["made"]
                await question.cancelled.wait()


async def test_an_attach_that_fails_or_is_cancelled_ends_nothing(script: Any) -> None:
    with anyio.fail_after(LIMIT):
        async with script(Text("One.")):
            async with HostedAgent({}, provider=PLAIN) as first:
                ref = await first.detach()
            with pytest.raises(GuestLostError):
                await HostedAgent.attach(replace(ref, agent="nobody")).connect()
            for turns in range(0, 120, 7):  # cancelled at another point each time
                agent = HostedAgent.attach(ref)
                with anyio.CancelScope() as scope:
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(agent.connect)
                        for _ in range(turns):
                            await anyio.lowlevel.checkpoint()
                        scope.cancel()
                if "not connected" not in repr(agent):
                    await agent.detach()
            async with HostedAgent.attach(ref) as last:
                assert (await turn(last, "1"))[-1].result == "One."


async def test_a_decision_that_nobody_made_is_asked_again_of_the_next_driver(script: Any) -> None:
    asked: list[str] = []

    async def never(name: str, *_: object) -> PermissionResultAllow:
        asked.append(name)
        heard.set()
        await anyio.sleep_forever()
        raise AssertionError

    heard = anyio.Event()
    with anyio.fail_after(LIMIT):
        async with script(ToolUse("Bash", {"command": "touch x; echo made"}), Text("Done.")):
            async with HostedAgent(ClaudeAgentOptions(can_use_tool=never), provider=PLAIN) as agent:
                await agent.query("go")
                await heard.wait()
                ref = await agent.detach()
            async with HostedAgent.attach(ref, options={"can_use_tool": allow}) as agent:
                assert results(await response(agent)) == ["made"]
    assert asked == ["Bash"]


async def test_a_decision_waits_for_a_driver_that_can_make_it(
    script: Any, caplog: pytest.LogCaptureFixture
) -> None:
    question = Unanswered()
    with anyio.fail_after(LIMIT):
        async with script(ToolUse("Bash", {"command": "touch x; echo made"}), Text("Done.")):
            async with HostedAgent(ClaudeAgentOptions(can_use_tool=question.call), provider=PLAIN) as agent:
                await agent.query("go")
                await question.called.wait()
                ref = await agent.detach()
            async with HostedAgent.attach(ref) as unable:
                await unable.get_server_info()  # the question lies before this answer
                assert "asks for can_use_tool, which this process does not have" in caplog.text
                ref = await unable.detach()
            async with HostedAgent.attach(ref, options={"can_use_tool": allow}) as agent:
                assert results(await response(agent)) == ["made"]


async def test_with_nobody_there_a_decision_is_denied_after_decision_wait(script: Any) -> None:
    question = Unanswered()
    limits = Limits(decision_wait=0.05)
    with anyio.fail_after(LIMIT):
        async with script(ToolUse("Bash", {"command": "touch x; echo made"}), Text("Done.")):
            async with HostedAgent(
                ClaudeAgentOptions(can_use_tool=question.call), provider=PLAIN, limits=limits
            ) as agent:
                await agent.query("go")
                await question.called.wait()
                ref = await agent.detach()
            async with HostedAgent.attach(ref, role="observer") as observer:
                seen = observer.receive_messages()
                while not (given := results([await anext(seen)])):
                    pass
                assert given == ["nobody was there to decide this in time"]
            async with HostedAgent.attach(ref) as agent:
                assert (await response(agent))[-1].result == "Done."


@pytest.mark.parametrize("repeatable", [False, True])
async def test_a_tool_call_that_may_have_begun_runs_twice_only_if_it_may(
    script: Any, repeatable: bool
) -> None:
    began: list[str] = []
    heard = anyio.Event()

    def server(who: str) -> Any:
        @tool("work", "works", {}, annotations=ToolAnnotations(idempotentHint=repeatable))
        async def work(_: dict[str, Any]) -> dict[str, Any]:
            began.append(who)
            if who == "first":
                heard.set()
                await anyio.sleep_forever()
            return {"content": [{"type": "text", "text": f"by {who}"}]}

        return create_sdk_mcp_server("mine", tools=[work])

    options = ClaudeAgentOptions(mcp_servers={"mine": server("first")}, allowed_tools=["mcp__mine__work"])
    with anyio.fail_after(LIMIT):
        async with script(ToolUse("mcp__mine__work", {}), Text("Done.")):
            async with HostedAgent(options, provider=PLAIN) as agent:
                await agent.query("go")
                await heard.wait()
                ref = await agent.detach()
            async with HostedAgent.attach(ref, options={"mcp_servers": {"mine": server("second")}}) as agent:
                given = results(await response(agent))
    if repeatable:
        assert (began, given) == (["first", "second"], ["by second"])
    else:
        assert began == ["first"]
        assert "outcome of this tool call is unknown" in given[0]


async def test_a_model_request_without_an_answer_waits_for_the_next_driver_and_nobody_retries(
    script: Any,
) -> None:
    reached, gate = anyio.Event(), anyio.Event()

    async def first(_: ModelRequest) -> Text:
        reached.set()
        await gate.wait()  # without even a head: one that came would be cut, and asked for again by the CLI
        return Text("One.")

    with anyio.fail_after(LIMIT):
        async with script(first, Text("One.")) as model:
            async with HostedAgent({}, provider=PLAIN) as agent:
                await agent.query("go")
                await reached.wait()
                ref = await agent.detach()
            gate.set()
            async with HostedAgent.attach(ref) as agent:
                messages = await response(agent)
            assert messages[-1].result == "One."
            assert len(model.requests) == 2  # asked again, once: the first answer died with its host
    assert not [one for one in messages if getattr(one, "subtype", "") == "api_retry"]


async def test_acknowledged_by_hand_only_what_was_named_is_gone(script: Any) -> None:
    with anyio.fail_after(LIMIT):
        async with (
            script(Text("One.")),
            HostedAgent({}, provider=PLAIN, ack="manual") as agent,
        ):
            await turn(agent, "1")
            await agent.ack(agent.cursor)
            with pytest.raises(ConfigError, match="beyond what was read"):
                await agent.ack(Cursor(99, 10**9))


async def is_there(provider: SandboxProvider, sandbox_id: str) -> bool:
    return bool([one async for one in provider.list() if one.id == sandbox_id])


async def test_keep_for_ends_a_sandbox_that_nobody_drives_any_more(script: Any) -> None:
    with anyio.fail_after(LIMIT):
        async with script(Text("One.")), open_provider(PLAIN) as provider:
            async with HostedAgent({}, provider=provider) as agent:
                with pytest.raises(UnsupportedError, match="max_lifetime"):
                    await agent.detach(keep_for=10**6)
                await turn(agent, "1")  # nothing has changed
                ref = await agent.detach(keep_for=0.1)
            await until(lambda: is_there(provider, ref.sandbox), lambda there: not there)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ref": "x"}, "not the JSON of a ref"),
        ({"ref": json.dumps({"version": 9})}, "version 9"),
        ({"role": "boss"}, "role='boss'"),
        ({"after": "x"}, "no cursor"),
        ({"after": -1}, "counted from 1"),
        ({"options": {"model": "m"}}, "options.model"),
        ({"provider": "local"}, "on provider 'local-unisolated', not on 'local'"),
    ],
)
async def test_what_makes_no_sense_is_refused_before_anything_is_reached(
    arguments: dict[str, Any], message: str
) -> None:
    ref = AgentRef(provider=PLAIN, sandbox="ah-none", sandbox_name="ah-none", agent="agent-1")
    given: Any = {"ref": ref, **arguments}
    with pytest.raises(ConfigError, match=message):
        await HostedAgent.attach(**given).connect()


def test_a_ref_is_one_line_of_json_that_comes_back_equal() -> None:
    ref = AgentRef(
        provider="local", sandbox="s", sandbox_name="n", agent="a", owned=False, cursor=Cursor(3, 99)
    )
    assert AgentRef.from_json(ref.to_json()) == ref
    assert "\n" not in ref.to_json()


async def test_a_reply_to_the_driver_before_answers_no_call_of_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-of-the-host")
    # What the second driver has not read when it calls: each driver counts its calls from 1.
    fake = FakeCLI([FakeCLI.partials(12_000, size=1000)], [FakeCLI.partials(6000, size=1000)])
    options: Any = {"cli_path": fake.write(tmp_path / "claude"), "include_partial_messages": True}
    with anyio.fail_after(LIMIT):
        async with HostedAgent(options, provider="local-unisolated") as first:
            await first.query("go")
            await response(first)
            status: Any = await first.get_mcp_status()
            await first.query("more")
            await response(first)
            ref = await first.detach()
        async with HostedAgent.attach(ref, after=Cursor()) as second:
            info: Any = await second.get_server_info()
    assert sorted(info) != sorted(status)
    assert "commands" in info


async def test_an_observer_is_refused_a_prompt_before_it_is_connected(script: Any) -> None:
    with anyio.fail_after(LIMIT):
        async with script(), HostedAgent({}, provider="local-unisolated") as agent:

            async def prompts() -> AsyncIterator[dict[str, Any]]:
                yield {"type": "user", "message": {"role": "user", "content": "x"}}

            for prompt in ("x", prompts()):
                with pytest.raises(ConfigError, match="an observer only reads"):
                    await HostedAgent.attach(agent.ref, role="observer").connect(prompt)

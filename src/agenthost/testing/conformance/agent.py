"""The kit for a hosted agent: section 6 of the contract."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import anyio
import pytest
from claude_agent_sdk import (
    AssistantMessage,
    HookMatcher,
    PermissionResultAllow,
    PermissionResultDeny,
    ResultMessage,
    StreamEvent,
    SystemMessage,
    ToolPermissionContext,
    create_sdk_mcp_server,
    tool,
)

from agenthost.adapter.provider import GuestProvider
from agenthost.errors import SandboxError, SupersededError
from agenthost.link.client import GuestSandbox
from agenthost.reaping import reap
from agenthost.sandbox import Sandbox, SandboxProvider
from agenthost.testing.conformance.clauses import clause, clause_of
from agenthost.testing.conformance.comparing import check_same
from agenthost.testing.conformance.hosting import (
    KEY,
    Hosting,
    response,
    texts,
    tool_results,
    why_only_here,
)
from agenthost.testing.conformance.kit import ENDING, Conformance
from agenthost.testing.conformance.lifecycle import fresh_labels
from agenthost.testing.faults import LinkFaults
from agenthost.testing.script import Hold, Stall, Text, ToolUse, Turn

_LARGE = 2_000_000  # characters, twice what the SDK takes in one line unless told
_LOOK_AGAIN = 0.2  # seconds between looks at what another process does
# Every process's environment and command line, and every file where programs or the guest write. The key
# comes by stdin, in two halves, so that the search does not find itself.
_SEARCH = """
read -r first second
printf %s "$first$second" > /tmp/.pattern
grep -l -a -s -F -f /tmp/.pattern /proc/[0-9]*/environ /proc/[0-9]*/cmdline
grep -r -l -a -s -F -f /tmp/.pattern --exclude=.pattern "$HOME" . /tmp /run /var /dev/shm "$@"
rm /tmp/.pattern
"""


async def _search(sandbox: Sandbox, key: str) -> list[str]:
    """Return where a key is found inside."""
    own = [sandbox.layout.boot_dir, sandbox.layout.spool_dir] if isinstance(sandbox, GuestSandbox) else []
    result = await sandbox.exec(["sh", "-c", _SEARCH, "sh", *own], stdin=f"{key[:8]} {key[8:]}\n".encode())
    return result.stdout.decode().split()


class HostedAgentConformance(Conformance):
    """Checks of agents in one provider's sandboxes, with the real CLI. Subclass it as SandboxConformance:

        class TestMine(HostedAgentConformance):
            provider_name = "mine"

    The model is scripted and on this host: nothing asks the real one, and no key is needed.
    """

    @pytest.fixture
    async def hosting(
        self,
        request: pytest.FixtureRequest,
        provider: SandboxProvider | None,
        provider_options: Mapping[str, Any],
    ) -> AsyncGenerator[Hosting]:
        """Where the agents of a check live. After a check that has failed none of their sandboxes is left."""
        clause = clause_of(request.function)
        number, needs = ("", ()) if clause is None else (clause.number, clause.needs)
        if "link" in needs and not isinstance(provider, GuestProvider):
            pytest.skip(f"clause {number}: agents end with the block here")
        if "process" in needs and (reason := why_only_here(self.provider_name)) is not None:
            pytest.skip(f"clause {number}: {reason}")
        sandbox: Sandbox | None = None if provider is not None else request.getfixturevalue("sandbox")
        labels = {**self.spec.labels, "conformance-check": secrets.token_hex(8)}
        spec = replace(self.spec, labels=labels)
        hosting = Hosting(provider, sandbox, spec, self.provider_name, provider_options)
        yield hosting
        if self.has_failed and provider is not None:
            with anyio.fail_after(ENDING, shield=True):
                await hosting.end_all()

    @clause("6.1")
    async def test_messages_arrive_as_the_sdks_own_types(self, hosting: Hosting) -> None:
        """In order, up to the result; and a second turn knows the first."""
        async with hosting.model(Text("Hello."), Text("Again.")) as model, hosting.agent(model) as agent:
            await agent.query("one")
            first = await response(agent)
            assert [type(message) for message in first] == [SystemMessage, AssistantMessage, ResultMessage]
            assert texts(first) == "Hello."
            await agent.query("two")
            assert texts(await response(agent)) == "Again."
            known = [message for message in model.turns[1].messages if message["role"] != "system"]
            assert [message["role"] for message in known] == ["user", "assistant", "user"]
            for message, said in zip(known, ("one", "Hello.", "two"), strict=True):
                assert said in str(message["content"])

    @clause("6.2")
    async def test_tools_work_inside(self, hosting: Hosting) -> None:
        """On the sandbox's files and with its programs."""
        write = ToolUse("Write", {"file_path": "made.txt", "content": "by the agent"})
        script = (write, ToolUse("Bash", {"command": "cat made.txt; pwd"}), Text("Done."))
        async with (
            hosting.model(*script) as model,
            hosting.agent(model, allowed_tools=["Write", "Bash"]) as agent,
        ):
            await agent.query("go")
            seen = tool_results(await response(agent))
            assert seen[-1] == f"by the agent{agent.sandbox.workdir}"
            assert await agent.sandbox.read_file("made.txt") == b"by the agent"

    @clause("6.3")
    async def test_a_turn_can_be_interrupted(self, hosting: Hosting) -> None:
        """It ends with a result, and the next one works."""
        script = (Turn(Text("I think"), Stall()), Text("Next."))
        async with (
            hosting.model(*script) as model,
            hosting.agent(model, include_partial_messages=True) as agent,
        ):
            await agent.query("go")
            async for message in agent.receive_response():
                if isinstance(message, StreamEvent):
                    await agent.interrupt()
                    break
            assert isinstance((await response(agent))[-1], ResultMessage)
            await agent.query("next")
            assert texts(await response(agent)) == "Next."

    @clause("6.4")
    async def test_a_message_of_2_mb_arrives_whole(self, hosting: Hosting) -> None:
        """In both directions."""
        large = "".join(f"{number:09} " for number in range(_LARGE // 10))
        async with hosting.model(Text(large)) as model, hosting.agent(model) as agent:
            await agent.query(large)
            check_same(texts(await response(agent)), large)
            arrived = large in str(model.turns[0].messages)
            assert arrived

    @clause("6.5")
    async def test_can_use_tool_decides_and_may_change_the_input(self, hosting: Hosting) -> None:
        """On the host."""
        asked: list[str] = []

        async def decide(
            name: str, given: dict[str, Any], _context: ToolPermissionContext
        ) -> PermissionResultAllow | PermissionResultDeny:
            asked.append(f"{name} {given['command']}")
            if len(asked) == 1:
                return PermissionResultDeny(message="not on a Sunday")
            return PermissionResultAllow(updated_input={**given, "command": "echo changed"})

        refused = ToolUse("Bash", {"command": "touch refused"})
        script = (refused, ToolUse("Bash", {"command": "touch asked"}), Text("Done."))
        async with hosting.model(*script) as model, hosting.agent(model, can_use_tool=decide) as agent:
            await agent.query("go")
            first, second = tool_results(await response(agent))
            assert "not on a Sunday" in first
            assert second == "changed"
            for never in ("refused", "asked"):
                with pytest.raises(FileNotFoundError):
                    await agent.sandbox.read_file(never)
        assert asked == ["Bash touch refused", "Bash touch asked"]

    @clause("6.6")
    async def test_a_hook_runs_on_the_host_and_its_word_counts(self, hosting: Hosting) -> None:
        """Here it refuses a tool call."""
        seen: list[Any] = []

        async def refuse(data: Any, _tool_use_id: str | None, _context: Any) -> Any:
            seen.append(data["tool_input"])
            output = {"hookEventName": "PreToolUse", "permissionDecision": "deny"}
            return {"hookSpecificOutput": {**output, "permissionDecisionReason": "not on a Sunday"}}

        hooks = {"PreToolUse": [HookMatcher(matcher="Bash", hooks=[refuse])]}
        script = (ToolUse("Bash", {"command": "touch made"}), Text("Done."))
        async with (
            hosting.model(*script) as model,
            hosting.agent(model, hooks=hooks, allowed_tools=["Bash"]) as agent,
        ):
            await agent.query("go")
            assert "not on a Sunday" in tool_results(await response(agent))[0]
            with pytest.raises(FileNotFoundError):
                await agent.sandbox.read_file("made")
        assert [data["command"] for data in seen] == ["touch made"]

    @clause("6.7")
    async def test_an_mcp_tool_of_the_host_is_called_from_inside(self, hosting: Hosting) -> None:
        """In this process."""
        called: list[dict[str, Any]] = []

        @tool("add", "adds", {"a": int, "b": int})
        async def add(given: dict[str, Any]) -> dict[str, Any]:
            called.append(given)
            return {"content": [{"type": "text", "text": str(given["a"] + given["b"])}]}

        options: dict[str, Any] = {
            "mcp_servers": {"host": create_sdk_mcp_server("host", tools=[add])},
            "allowed_tools": ["mcp__host__add"],
        }
        script = (ToolUse("mcp__host__add", {"a": 19, "b": 23}), Text("Done."))
        async with hosting.model(*script) as model, hosting.agent(model, **options) as agent:
            await agent.query("go")
            assert tool_results(await response(agent)) == ["42"]
        assert called == [{"a": 19, "b": 23}]

    @clause("6.8", needs=("system", "link"))
    async def test_a_cut_link_loses_nothing_and_repeats_nothing(self, hosting: Hosting) -> None:
        """In the middle of a turn, several times; and the model is asked once."""
        said = Text.deltas(400)
        # The model goes on only when the link has been cut: what comes then has to come by another carrier.
        ends = [len(said.text) * number // 4 for number in range(1, 5)]
        cuts = {end: anyio.Event() for end in ends[:-1]}
        script: list[Text | Hold] = []
        for begin, end in zip([0, *ends], ends, strict=False):
            script.append(Text(said.text[begin:end], delta=said.delta, end=end not in cuts))
            script += [Hold(cuts[end])] if end in cuts else []
        async with LinkFaults() as faults, hosting.model(script) as model:
            assert isinstance(hosting.provider, GuestProvider)
            faults.around(hosting.provider)
            async with hosting.agent(model, include_partial_messages=True) as agent:
                await agent.query("go")
                pieces = ""
                messages: list[Any] = []
                async for message in agent.receive_response():
                    messages.append(message)
                    if isinstance(message, StreamEvent):
                        pieces += message.event.get("delta", {}).get("text", "")
                        if len(pieces) in cuts and not cuts[len(pieces)].is_set():
                            faults.strike("cut")
                            cuts[len(pieces)].set()
            assert len(faults.struck) == len(cuts)
            check_same(pieces, said.text)
            check_same(texts(messages), said.text)
            assert len(model.turns) == 1

    @clause("6.9", needs=("system", "link", "process"))
    async def test_another_process_goes_on_with_an_agent(self, hosting: Hosting) -> None:
        """It gets what was not read, sends a prompt, and ends the sandbox."""
        async with hosting.model(Text("One."), Text("Two.")) as model:
            async with hosting.agent(model) as agent:
                await agent.query("one")
                async for message in agent.receive_messages():
                    assert isinstance(message, SystemMessage)
                    break
                await hosting.until_told(agent.ref, "ResultMessage")
                ref = await agent.detach()
            told = await hosting.second_host(ref, model, prompts=["", "two"])
            kinds = ["SystemMessage", "AssistantMessage", "ResultMessage"]
            assert [message["$type"] for message in told] == [*kinds[1:], *kinds]
            assert [message["result"] for message in told if "result" in message] == ["One.", "Two."]
            assert len(model.turns) == 2
        assert hosting.provider is not None
        with pytest.raises(SandboxError):
            await hosting.provider.get(ref.sandbox)

    @clause("6.10", needs=("system", "link"))
    async def test_a_host_that_was_superseded_is_told_and_ends_nothing(self, hosting: Hosting) -> None:
        """The other one works on when the first has left its block."""
        async with hosting.model(Text("One.")) as model, AsyncExitStack() as stack:
            async with hosting.agent(model) as agent:
                ref = agent.ref
                heir = await stack.enter_async_context(hosting.attach(ref, model))
                with pytest.raises(SupersededError):
                    async for _ in agent.receive_messages():
                        pass
            await heir.query("one")
            assert texts(await response(heir)) == "One."
        # What the heir took over it ends.
        assert hosting.provider is not None
        with pytest.raises(SandboxError):
            await hosting.provider.get(ref.sandbox)

    @clause("6.11", needs=("system", "link"))
    async def test_an_agent_whose_host_is_away_finishes_its_tool_and_waits(self, hosting: Hosting) -> None:
        """Its next model request is held, not failed, and asked once when a host has come."""
        wait = "touch waiting; until [ -e go ]; do sleep 0.05; done; echo went"
        script = (ToolUse("Bash", {"command": wait}), Text("Done."))
        assert hosting.provider is not None
        async with hosting.model(*script) as model:
            async with hosting.agent(model, allowed_tools=["Bash"]) as agent:
                await agent.query("go")
                await agent.sandbox.exec(["sh", "-c", "until [ -e waiting ]; do sleep 0.05; done"])
                ref = await agent.detach()
            sandbox = await hosting.provider.get(ref.sandbox)
            await sandbox.write_file("go", b"")
            # The request has come, and nobody was there to take it.
            assert await hosting.until_told(ref, "waiting_for_host", "api_retry") == "waiting_for_host"
            assert len(model.turns) == 1
            async with hosting.attach(ref, model) as heir:
                messages = await response(heir)
            assert tool_results(messages) == ["went"]
            assert texts(messages) == "Done."
            assert len(model.turns) == 2
            assert "api_retry" not in [getattr(message, "subtype", "") for message in messages]

    @clause("6.12", needs=("system", "isolation"))
    async def test_an_isolated_agent_may_work_without_questions(self, hosting: Hosting) -> None:
        """``bypassPermissions``, as the user that the sandbox's programs run as."""
        # Only to look at something needs no permission in any mode.
        script = (ToolUse("Bash", {"command": "id -u > made; cat made"}), Text("Done."))
        async with (
            hosting.model(*script) as model,
            hosting.agent(model, permission_mode="bypassPermissions") as agent,
        ):
            await agent.query("go")
            seen = tool_results(await response(agent))
            assert seen == [(await agent.sandbox.exec(["id", "-u"])).stdout.decode().strip()]

    @clause("6.13", needs=("system", "isolation"))
    async def test_the_hosts_key_is_nowhere_inside(self, hosting: Hosting) -> None:
        """In no process and no file that a program there can read; a planted one is found in both."""
        planted = "sk-ant-api03-planted"
        async with hosting.model(Text("Hello.")) as model, hosting.agent(model) as agent:
            await agent.query("one")
            await response(agent)
            sandbox = agent.sandbox
            await sandbox.write_file("planted", planted.encode())
            holder = ["sh", "-c", "echo here; sleep 100000"]
            async with sandbox.spawn(holder, env={"PLANTED": planted}) as process:
                assert await process.receive_stdout()  # it runs by now, not only its fork
                found = await _search(sandbox, planted)
                assert "./planted" in found
                assert any(place.startswith("/proc/") for place in found)
                assert await _search(sandbox, KEY) == []

    @clause("6.14", needs=("system", "link", "process"))
    async def test_what_a_killed_host_leaves_is_reaped(self, hosting: Hosting) -> None:
        """And nothing else."""
        provider, labels = hosting.provider, fresh_labels()
        assert provider is not None
        # Only what this check has made: there may be others whose owners still want to come back.
        hosting = replace(hosting, spec=replace(hosting.spec, labels={**hosting.spec.labels, **labels}))
        async with hosting.model(Text("One.")) as model:
            async with hosting.agent(model) as other:
                async with hosting.agent(model) as agent:
                    ref = await agent.detach()
                await hosting.second_host(ref, model, kill=True)
                found = {one.info.id: one for one in await reap(provider, labels=labels)}
                while "driver" in found[ref.sandbox].reason:  # over some carriers the guest hears late of it
                    await anyio.sleep(_LOOK_AGAIN)
                    found = {one.info.id: one for one in await reap(provider, labels=labels)}
                assert found[ref.sandbox].outcome == "reaped"
                assert found[other.sandbox.id].outcome == "kept"
                assert (await other.sandbox.exec(["echo", "here"])).stdout == b"here\n"
            with pytest.raises(SandboxError):
                await provider.get(ref.sandbox)

"""What runs inside has the host's tools called, without an approval of the host's own.

The attacker here is the CLI itself, or a program that writes into its output: it calls, asks and forges what
it likes, in the control protocol. The host's functions are its only judges.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from agent.turns import turn
from claude_agent_sdk import (
    ClaudeAgentOptions,
    HookMatcher,
    PermissionResultAllow,
    PermissionResultDeny,
    create_sdk_mcp_server,
    tool,
)
from conformance.wrong_agents import Patch
from redteam.patched import Boxes, boxes_of
from support.hosting import KEY
from support.messages import results

from agenthost import HostedAgent
from agenthost.agent.tool_authority import ToolAuthority
from agenthost.testing import FakeCLI

LIMIT = 60
Step = dict[str, Any]


def forged(name: str, **given: Any) -> Step:
    """Return a call that the CLI did not ask anybody about."""
    call = {"method": "tools/call", "params": {"name": name, "arguments": given}}
    request = {
        "subtype": "mcp_message",
        "server_name": "own",
        "message": {"jsonrpc": "2.0", "id": f"forged {name} {given}", **call},
    }
    frame = {"type": "control_request", "request_id": f"forged {name} {given}", "request": request}
    return FakeCLI.raw(json.dumps(frame).encode() + b"\n")


def asked(name: str, **given: Any) -> Step:
    """Return an honest step: the call is asked about, and made where the answer allows it."""
    return FakeCLI.tool(f"mcp__own__{name}", given, ask=True)


def hook_asked(matcher: str, name: str, **given: Any) -> Step:
    """Return a question to the hooks of a matcher, about any tool."""
    return FakeCLI.hook("PreToolUse", tool=matcher, tool_name=f"mcp__own__{name}", tool_input=given)


NEVER_ASKED = "call that nobody was asked about"
DENIED = "call that was denied before"
AGAIN = "approved call made again"
OTHER_INPUT = "approved call with another input"
NO_HOOK = "call that skips the hook"
HOOK_DECEIVED = "call with another input than the hook has seen"
LATER = "call to a driver that came later"
OTHER_HOOK = "hook of another tool asked"
# The steps, and what ran where the host does not look.
ATTACKS: dict[str, tuple[list[Step], list[Any]]] = {
    NEVER_ASKED: ([forged("pay", amount=100)], [100]),
    DENIED: ([asked("pay", amount=100), forged("pay", amount=100)], [100]),
    AGAIN: ([asked("pay", amount=1), forged("pay", amount=1)], [1, 1]),
    OTHER_INPUT: ([asked("pay", amount=1), forged("pay", amount=100)], [1, 100]),
    NO_HOOK: ([forged("publish", text="secret")], ["secret"]),
    HOOK_DECEIVED: (
        [hook_asked("mcp__own__publish", "publish", text="harmless"), forged("publish", text="secret")],
        ["secret"],
    ),
    OTHER_HOOK: ([hook_asked("Bash", "pay", amount=100), forged("pay", amount=100)], [100]),
}
HONEST: dict[str, list[Any]] = {AGAIN: [1], OTHER_INPUT: [1]}


class Host:
    """A host with tools, and with functions that guard them."""

    def __init__(self) -> None:
        self.ran: list[Any] = []

    def options(self, cli_path: str) -> ClaudeAgentOptions:
        """Return what the agent gets: it may publish, after a hook has read it, and pay 1."""

        @tool("pay", "Pays.", {"amount": int})
        async def pay(given: dict[str, Any]) -> dict[str, Any]:
            self.ran.append(given["amount"])
            return {"content": []}

        @tool("publish", "Publishes.", {"text": str})
        async def publish(given: dict[str, Any]) -> dict[str, Any]:
            self.ran.append(given["text"])
            return {"content": []}

        @tool("note", "Notes.", {})
        async def note(_: dict[str, Any]) -> dict[str, Any]:
            return {"content": []}

        return ClaudeAgentOptions(
            cli_path=cli_path,
            env={"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": "http://127.0.0.1:9"},  # asked by nobody
            mcp_servers={"own": create_sdk_mcp_server("own", tools=[pay, publish, note])},
            allowed_tools=["mcp__own__note", "mcp__own__publish"],
            can_use_tool=self.decide,
            hooks={
                "PreToolUse": [
                    HookMatcher(matcher="mcp__own__publish", hooks=[self.read]),
                    HookMatcher(matcher="Bash", hooks=[self.let_pass]),
                ]
            },
        )

    async def decide(self, _: str, given: dict[str, Any], __: object) -> Any:
        """Let small amounts pass."""
        return PermissionResultAllow() if given["amount"] <= 1 else PermissionResultDeny(message="too much")

    async def read(self, given: Any, *_: object) -> Any:
        """Keep what is secret."""
        verdict = "deny" if "secret" in given["tool_input"]["text"] else "allow"
        return {"hookSpecificOutput": {"hookEventName": "PreToolUse", "permissionDecision": verdict}}

    async def let_pass(self, *_: object) -> Any:
        """Let each command pass."""
        return {"hookSpecificOutput": {"hookEventName": "PreToolUse", "permissionDecision": "allow"}}

    async def attacked(self, agent: HostedAgent, steps: list[Step]) -> list[Any]:
        """Return what ran in a turn of these steps, in which an allowed tool is called behind them."""
        self.ran.clear()
        with anyio.fail_after(LIMIT):
            await turn(agent, FakeCLI.prompt(*steps, FakeCLI.tool("mcp__own__note")))
        return list(self.ran)


@pytest.fixture(scope="module")
async def host() -> Host:
    """Give the host that the tests of this module share."""
    return Host()


@pytest.fixture(scope="module")
async def agent(
    anyio_backend: str, host: Host, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[HostedAgent]:
    """Give its agent, which plays the steps that it is sent."""
    del anyio_backend
    directory: Path = tmp_path_factory.mktemp("cli")
    options = host.options(FakeCLI().write(directory / "claude"))
    async with HostedAgent(options, provider="local-unisolated") as connected:
        yield connected


def marked(mark: str) -> list[Any]:
    """Return the attacks, each with its mark."""
    goal = ("have the host run a tool that it did not approve",) if mark == "attack" else ()
    return [pytest.param(name, marks=getattr(pytest.mark, mark)(*goal, name), id=name) for name in ATTACKS]


@pytest.mark.parametrize("name", marked("attack"))
async def test_a_call_that_the_host_did_not_approve_does_not_run(
    host: Host, agent: HostedAgent, name: str
) -> None:
    assert await host.attacked(agent, ATTACKS[name][0]) == HONEST.get(name, [])


@pytest.mark.parametrize("name", marked("control"))
async def test_without_the_hosts_own_judgement_the_call_runs(
    host: Host, agent: HostedAgent, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_nothing(*_: object, **_options: object) -> None:
        return

    monkeypatch.setattr(ToolAuthority, "refusal", refuse_nothing)
    assert await host.attacked(agent, ATTACKS[name][0]) == ATTACKS[name][1]


@pytest.mark.attack("have the host run a tool that it did not approve", LATER)
@pytest.mark.control(LATER)
async def test_a_driver_that_says_the_rules_when_it_attaches_refuses_too(host: Host, tmp_path: Path) -> None:
    steps = ATTACKS[NEVER_ASKED][0]
    options = host.options(FakeCLI().write(tmp_path / "claude"))
    async with HostedAgent(options, provider="local-unisolated") as first:
        ref = await first.detach()
    options = replace(options, cli_path=None)
    async with HostedAgent.attach(ref, options=options) as second:
        assert await host.attacked(second, steps) == []
        ref = await second.detach()
    options = replace(options, allowed_tools=[])
    async with HostedAgent.attach(ref, options=options) as third:
        assert await host.attacked(third, steps) == [100], "nobody knows what the first one's options allowed"


MANAGED = "runner that says that managed settings approve calls"
SAYS_MANAGED = Patch("runner", "runner/sdk.py", "if os.path.isdir(_MANAGED_SETTINGS):", "if True:")


@pytest.fixture(scope="module", params=["local"])
def boxes(request: pytest.FixtureRequest) -> Boxes:
    """Give what makes sandboxes."""
    return boxes_of(request)


async def ran_under_managed_settings(host: Host, boxes: Boxes) -> list[Any]:
    """Return what a call ran that nobody was asked about."""
    async with boxes(SAYS_MANAGED) as box:
        options = host.options(await FakeCLI().put(box))
        async with HostedAgent(options, sandbox=box) as agent:
            return await host.attacked(agent, ATTACKS[NEVER_ASKED][0])


@pytest.mark.full
@pytest.mark.attack("have the host run a tool that it did not approve", MANAGED)
async def test_what_the_sandbox_says_of_managed_settings_approves_nothing(
    host: Host, boxes: Boxes, caplog: pytest.LogCaptureFixture
) -> None:
    assert await ran_under_managed_settings(host, boxes) == []
    assert len([one for one in caplog.messages if "the sandbox has managed settings" in one]) == 1


@pytest.mark.full
@pytest.mark.control(MANAGED)
async def test_without_the_hosts_own_judgement_the_word_of_the_sandbox_counts(
    host: Host, boxes: Boxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def believe(*_: object) -> str:
        return "managed settings"

    monkeypatch.setattr(ToolAuthority, "_decide", believe)
    assert await ran_under_managed_settings(host, boxes) == [100]


async def test_a_refusal_is_told_to_the_caller_and_logged_once(
    host: Host, agent: HostedAgent, caplog: pytest.LogCaptureFixture
) -> None:
    del host
    caplog.clear()
    with anyio.fail_after(LIMIT):
        steps = [FakeCLI.tool("mcp__own__refused", {"n": n}) for n in range(3)]
        messages = await turn(agent, FakeCLI.prompt(*steps))
    assert [text[:50] for text in results(messages)] == [
        "The host refused this call of mcp__own__refused: n"
    ] * 3
    assert len([one for one in caplog.messages if "mcp__own__refused from inside was refused" in one]) == 1

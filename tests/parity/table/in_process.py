"""MCP servers of this process: what their tools are given, and what the model gets from them."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable
from typing import Any

import anyio
from claude_agent_sdk import (
    AgentDefinition,
    HookMatcher,
    PermissionResultAllow,
    PermissionResultDeny,
    PermissionUpdate,
    SdkMcpTool,
    ToolAnnotations,
    ToolPermissionContext,
    UserMessage,
    create_sdk_mcp_server,
    tool,
)
from claude_agent_sdk.types import PermissionRuleValue
from parity.own_mcp import server_by_hand
from parity.scenario import Run, one_answer, scenario
from parity.stdio_mcp import SERVER
from parity.table.hooks import hook, says

from agenthost.testing import ModelRequest, Text, ToolUse

BOTH = ("local-unisolated", "local")


def _png() -> str:
    """Return a picture of one red point."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\xff\0\0"))
    return base64.b64encode(data + chunk(b"IEND", b"")).decode()


def _tools(run: Run) -> list[SdkMcpTool[Any]]:
    """Return tools that record what they are given."""

    @tool(
        "add",
        "Adds \u00fc.",
        {"a": float, "b": float},
        annotations=ToolAnnotations(readOnlyHint=True, title="Sum"),
    )
    async def add(given: dict[str, Any]) -> dict[str, Any]:
        run.note("add", given)
        return {"content": [{"type": "text", "text": f"{given['a'] + given['b']} \u00fc \U0001f40d"}]}

    @tool("draw", "Draws.", {"type": "object", "properties": {"what": {"type": "string"}}})
    async def draw(given: dict[str, Any]) -> dict[str, Any]:
        run.note("draw", given)
        picture = {"type": "image", "data": _png(), "mimeType": "image/png"}
        return {"content": [{"type": "text", "text": "A point."}, picture]}

    @tool("refuse", "Says that it failed.", {})
    async def refuse(given: dict[str, Any]) -> dict[str, Any]:
        run.note("refuse", given)
        return {"content": [{"type": "text", "text": "I will not."}], "is_error": True}

    @tool("fall", "Raises.", {})
    async def fall(given: dict[str, Any]) -> dict[str, Any]:
        run.note("fall", given)
        raise RuntimeError("It \u00fc fell.")

    @tool("point", "Links to something, and holds a text.", {})
    async def point(given: dict[str, Any]) -> dict[str, Any]:
        run.note("point", given)
        link = {"type": "resource_link", "uri": "file:///a.txt", "name": "a", "description": "A file."}
        held = {"type": "resource", "resource": {"uri": "file:///b.txt", "text": "held"}}
        return {"content": [link, held]}

    return [add, draw, refuse, fall, point]


def _server(run: Run, **more: Any) -> dict[str, Any]:
    names = ("add", "draw", "refuse", "fall", "point")
    return {
        "mcp_servers": {"own": create_sdk_mcp_server("own", "2.5", _tools(run))},
        "allowed_tools": [f"mcp__own__{name}" for name in names],
        **more,
    }


def call(name: str, number: int = 1, **given: Any) -> ToolUse:
    return ToolUse(f"mcp__own__{name}", given, id=f"toolu_{number}")


@scenario(
    "option:mcp_servers function:create_sdk_mcp_server function:tool class:SdkMcpTool",
    script=[call("add", a=1, b=2.5), Text("Done.")],
    options=_server,
    shows=("3.5 \\u00fc", "get_mcp_status returned"),
    on=BOTH,
    trio=True,
)
async def a_tool_of_this_process(run: Run) -> None:
    await one_answer(run)
    await run.call("get_mcp_status")


@scenario(
    "function:tool",
    script=[call("draw", what="a point"), call("point", 2), Text("Done.")],
    options=_server,
    shows=("image/png", "file:///a.txt", "held"),
)
async def tools_that_return_a_picture_and_links(run: Run) -> None:
    await one_answer(run)


@scenario(
    "function:tool",
    script=[
        [call("refuse"), call("fall", 2), call("add", 3, a="one"), call("none", 4)],
        Text("Done."),
    ],
    options=_server,
    shows=("I will not.", "It \\u00fc fell.", "Input validation error", "No such tool available"),
)
async def tools_that_fail(run: Run) -> None:
    await one_answer(run)


def _in_turns(run: Run) -> dict[str, Any]:
    """Return a tool that waits until the result of the one before has been seen, when all were called."""

    @tool("turn", "Waits for its turn.", {"place": int}, annotations=ToolAnnotations(readOnlyHint=True))
    async def turn(given: dict[str, Any]) -> dict[str, Any]:
        number = given["place"]
        run.event(f"called {number}").set()
        for other in range(COUNT):
            await run.event(f"called {other}").wait()
        if number:
            await run.event(f"seen {number - 1}").wait()
        run.note("turn", given)
        return {"content": [{"type": "text", "text": f"It was the turn of {number}."}]}

    server = create_sdk_mcp_server("own", tools=[turn])
    return {"mcp_servers": {"own": server}, "allowed_tools": ["mcp__own__turn"]}


COUNT = 5


@scenario(
    "function:tool",
    script=[[call("turn", n, place=n) for n in range(COUNT)], Text("Done.")],
    options=_in_turns,
)
async def several_tools_at_once(run: Run) -> None:
    await run.client.query("Go on.")
    seen = 0
    async for message in run.client.receive_response():
        run.see(message)
        if isinstance(message, UserMessage):
            run.event(f"seen {seen}").set()
            seen += 1


@scenario(
    "option:mcp_servers method:get_mcp_status",
    script=[
        call("add", a=1, b=1),
        ToolUse("mcp__machine__greet", {"name": "Zo\u00eb"}, id="toolu_2"),
        ToolUse("mcp__second__add", {"a": 2, "b": 2}, id="toolu_3"),
        Text("Done."),
    ],
    files={"server.py": SERVER},
    options=lambda run: {
        "mcp_servers": {
            "own": create_sdk_mcp_server("own", tools=_tools(run)),
            "machine": {"command": "python3", "args": [f"{run.work}/server.py"]},
            "second": create_sdk_mcp_server("another name", tools=_tools(run)[:1]),
        },
        "permission_mode": "bypassPermissions",
        "env": {"IS_SANDBOX": "1"},
    },
    shows=("Hello Zo\\u00eb", "4 \\u00fc"),
)
async def servers_of_this_process_beside_one_of_the_machine(run: Run) -> None:
    await run.wait_for_servers()
    await one_answer(run)
    await run.call("get_mcp_status")


def _own_server(run: Run) -> dict[str, Any]:
    return {
        "mcp_servers": {"own": {"type": "sdk", "name": "own", "instance": server_by_hand(run)}},
        "allowed_tools": ["mcp__own__count", "ListMcpResourcesTool", "ReadMcpResourceTool"],
    }


@scenario(
    "option:mcp_servers",
    script=[
        call("count", to=3),
        ToolUse("ListMcpResourcesTool", {}, id="toolu_2"),
        ToolUse("ReadMcpResourceTool", {"server": "own", "uri": "memo://one"}, id="toolu_3"),
        Text("Done."),
    ],
    options=_own_server,
    shows=("counted", "a memo"),
)
async def a_server_made_by_hand(run: Run) -> None:
    await one_answer(run)


def _slow(run: Run) -> dict[str, Any]:
    @tool("wait", "Waits.", {})
    async def wait(given: dict[str, Any]) -> dict[str, Any]:
        run.event("asked").set()
        try:
            await anyio.sleep_forever()
        finally:
            run.note("wait was cancelled", given)
        return {}

    return {
        "mcp_servers": {"own": create_sdk_mcp_server("own", tools=[wait])},
        "allowed_tools": ["mcp__own__wait"],
    }


@scenario(
    "method:interrupt function:tool",
    script=[call("wait"), Text("Again.")],
    options=_slow,
    shows=("wait was cancelled",),
)
async def an_interrupt_while_a_tool_of_this_process_runs(run: Run) -> None:
    await run.client.query("Go.")
    await run.event("asked").wait()
    await run.call("interrupt")
    await run.response()
    await run.ask("And now?")


@scenario(
    "method:toggle_mcp_server method:reconnect_mcp_server",
    script=[Text("Without."), call("add", a=1, b=2), Text("With.")],
    options=_server,
    masks=("a refusal of the CLI",),
)
async def a_server_of_this_process_is_switched(run: Run) -> None:
    await run.call("toggle_mcp_server", "own", enabled=False)
    await run.ask("What tools?")
    await run.call("toggle_mcp_server", "own", enabled=True)
    await run.call("get_mcp_status")
    await run.ask("And now?")
    await run.call("reconnect_mcp_server", "own")
    await run.call("get_mcp_status")


@scenario("option:mcp_servers", connects=False, script=[call("add", a=1, b=2), Text("Done.")], trio=True)
async def one_shot_with_a_tool_of_this_process(run: Run) -> None:
    await run.one_shot("Go on.", **_server(run))


def _guarded(run: Run, **more: Any) -> dict[str, Any]:
    """Return tools that nothing allows."""
    return {"mcp_servers": {"own": create_sdk_mcp_server("own", tools=_tools(run))}, **more}


def _allowing(run: Run) -> dict[str, Any]:
    """Return a can_use_tool that changes the input, refuses one tool and allows another from then on."""

    async def can_use_tool(tool: str, given: dict[str, Any], _: ToolPermissionContext) -> Any:
        run.note("can_use_tool", {"tool": tool, "input": given})
        if tool == "mcp__own__add":
            return PermissionResultAllow(updated_input={**given, "b": 2**60 + 1})
        if tool == "mcp__own__refuse":
            return PermissionResultDeny(message="Not this one.")
        rule = PermissionRuleValue(tool_name=tool)
        update = PermissionUpdate(type="addRules", rules=[rule], behavior="allow", destination="session")
        return PermissionResultAllow(updated_permissions=[update])

    return _guarded(run, can_use_tool=can_use_tool)


@scenario(
    "function:tool option:can_use_tool",
    script=[
        # One after the other: the results of tools that only read come in any order when called at once.
        call("add", a=1, b=2.0),
        call("draw", 2, what="a point"),
        call("refuse", 3),
        call("draw", 4, what="another"),
        call("add", 5, a=2, b=2),
        Text("Done."),
    ],
    options=_allowing,
    shows=("Not this one.",),
)
async def tools_that_can_use_tool_decides_about(run: Run) -> None:
    await run.client.query("Go on.")
    await run.response()


def _hooked(run: Run) -> dict[str, Any]:
    allow = says("PreToolUse", permissionDecision="allow", updatedInput={"a": 20, "b": 22})
    hooks = [
        HookMatcher(matcher="mcp__own__add", hooks=[hook(run, allow), hook(run, name="second")]),
        HookMatcher(
            matcher="mcp__.*__draw", hooks=[hook(run, says("PreToolUse", permissionDecision="deny"))]
        ),
        HookMatcher(hooks=[hook(run, name="of all")]),
    ]
    asked = says("PermissionRequest", decision={"behavior": "allow", "updatedInput": {}})
    return _guarded(
        run,
        hooks={
            "PreToolUse": hooks,
            "PermissionRequest": [
                HookMatcher(matcher="mcp__own__point", hooks=[hook(run, asked, name="asked")])
            ],
        },
    )


@scenario(
    "function:tool hook:PreToolUse hook:PermissionRequest",
    script=[call("add", a=1, b=2), call("draw", 2, what="a point"), call("point", 3), Text("Done.")],
    options=_hooked,
    shows=("42 \\u00fc", "file:///a.txt"),
)
async def tools_that_hooks_decide_about(run: Run) -> None:
    await one_answer(run)
    run.record.callbacks.sort(key=repr)


@scenario(
    "function:tool method:set_permission_mode",
    script=[call("point"), Text("Done."), call("point", 2), Text("Refused.")],
    options=lambda run: _guarded(run, permission_mode="bypassPermissions", env={"IS_SANDBOX": "1"}),
)
async def tools_in_a_mode_that_is_changed(run: Run) -> None:
    await run.ask("Go on.")
    await run.call("set_permission_mode", "default")
    await run.ask("Again.")


def _by_a_subagent(_: Run) -> Callable[[ModelRequest], Any]:
    def answer(request: ModelRequest) -> Any:
        if request.prompt == "Add them.":
            return Text("Three.") if request.tool_results else call("add", 2, a=1, b=2)
        if request.tool_results:
            return Text("Done.")
        given = {"description": "add", "prompt": "Add them.", "subagent_type": "adder"}
        return ToolUse("Agent", {**given, "run_in_background": False}, id="toolu_agent")

    return answer


@scenario(
    "function:tool option:agents",
    script=_by_a_subagent,
    options=lambda run: {
        **_allowing(run),
        "agents": {"adder": AgentDefinition(description="Adds.", prompt="You add.", tools=["mcp__own__add"])},
    },
)
async def a_tool_of_this_process_for_a_subagent(run: Run) -> None:
    await run.ask("Go on.")

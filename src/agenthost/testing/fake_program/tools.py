"""Tools: hooks around them, permissions for them, and those of MCP servers in the SDK's process."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from agenthost.testing.fake_program.about import sdk_servers, transcript
from agenthost.testing.fake_program.session import InterruptedTurnError, Session

_CLIENT = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "fake-claude", "version": "1"},
}


def call_hooks(
    session: Session, event: str, tool: str = "", use: str | None = None, **given: Any
) -> list[Any]:
    """Call the hooks of an event, one after the other; those with a matcher for their tools only."""
    outputs: list[Any] = []
    about = {"session_id": session.id, "transcript_path": transcript(session.id), "cwd": os.getcwd()}
    for entry in session.hooks.get(event) or []:
        matcher = entry.get("matcher")
        if matcher and matcher != "*" and tool not in matcher.split("|"):
            continue
        for callback in entry["hookCallbackIds"]:
            data = {**about, "permission_mode": session.mode, "hook_event_name": event, **given}
            name = use or f"hook_{session.number()}"
            try:
                output = session.ask("hook_callback", callback_id=callback, input=data, tool_use_id=name)
            except RuntimeError as error:  # as in the CLI: a hook that fails is told, and the turn goes on
                sys.stderr.write(f"hook {callback} failed: {error}\n")
            else:
                outputs.append(output)
    return outputs


def connect_servers(session: Session) -> None:
    """Make the acquaintance of the MCP servers."""
    for name in sdk_servers():
        if name not in session.servers:
            made = _mcp(session, name, "initialize", _CLIENT, number=0)
            _mcp(session, name, "notifications/initialized", None)
            tools = _mcp(session, name, "tools/list", {}, number=1)["result"]["tools"]
            session.servers[name] = {"serverInfo": made["result"].get("serverInfo"), "tools": tools}


def use_tools(session: Session, calls: list[dict[str, Any]]) -> list[Any]:
    """Use tools at once: all is asked before the first answer is waited for. Returns their results."""
    begun = [(call, *_before(session, call)) for call in calls]
    results = [
        _after(session, call, decision if name is None else _permission(session, call, name))
        for call, name, decision in begun
    ]
    session.user(results)
    return results


def _before(session: Session, call: dict[str, Any]) -> tuple[str | None, Any]:
    """Return the name of the question whether the tool may run, or else what has been decided."""
    given = {"tool_name": call["name"], "tool_input": call["input"], "tool_use_id": call["id"]}
    decided = ""
    for output in call_hooks(session, "PreToolUse", call["name"], call["id"], **given):
        said: Any = output.get("hookSpecificOutput") or {}
        decided = said.get("permissionDecision") or decided
        if decided == "deny" or output.get("decision") == "block":
            return None, _denied(
                said.get("permissionDecisionReason") or output.get("reason") or "denied by a hook"
            )
        call["input"] = said.get("updatedInput") or call["input"]
    if decided == "allow" or not (call.get("ask") or decided == "ask"):
        return None, {"behavior": "allow"}
    if not session.asks:
        return None, _denied(f"{call['name']} needs an approval, and there is nobody to give it")
    session.state("requires_action")
    question = {"tool_name": call["name"], "input": call["input"], "tool_use_id": call["id"]}
    question.update(permission_suggestions=call.get("suggestions") or [], display_name=call["name"])
    return session.begin("can_use_tool", **question), None


def _permission(session: Session, call: dict[str, Any], name: str) -> Any:
    if call.get("withdraw_at"):
        session.wait_for(call["withdraw_at"])
        session.withdraw(name)
        session.forget(name)
        decision = _denied("the question was withdrawn")
    else:
        try:
            decision = session.end(name)
        except RuntimeError as error:
            decision = _denied(f"Tool permission request failed: {error}")
    session.state("running")
    if decision.get("interrupt"):
        raise InterruptedTurnError
    return decision


def _denied(message: str) -> Any:
    return {"behavior": "deny", "message": message}


def _after(session: Session, call: dict[str, Any], decision: Any) -> Any:
    content, failed = decision.get("message"), True
    if decision["behavior"] == "allow":
        call["input"] = decision.get("updatedInput") or call["input"]
        content, failed = _run(session, call)
        given = {"tool_name": call["name"], "tool_input": call["input"], "tool_response": content}
        call_hooks(session, "PostToolUse", call["name"], call["id"], **given, tool_use_id=call["id"])
    return {"type": "tool_result", "tool_use_id": call["id"], "content": content, "is_error": failed}


def _run(session: Session, call: dict[str, Any]) -> tuple[Any, bool]:
    """Return what a tool says and whether it failed: one of a server for itself, any other by the script."""
    _, server, name = [*call["name"].split("__", 2), "", ""][:3]
    if server not in session.servers:
        said = call.get("result")
        return (json.dumps(call["input"]) if said is None else said), bool(call.get("is_error"))
    params = {"name": name, "arguments": call["input"], "_meta": {"claudecode/toolUseId": call["id"]}}
    try:
        answer = _mcp(session, server, "tools/call", params, number=session.number() + 1)
    except RuntimeError as error:
        return str(error), True
    if "error" in answer:
        return answer["error"].get("message"), True
    return answer["result"].get("content"), bool(answer["result"].get("isError"))


def _mcp(session: Session, server: str, method: str, params: Any, number: int | None = None) -> Any:
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    if number is not None:
        message["id"] = number
    if params is not None:
        message["params"] = params
    return session.ask("mcp_message", server_name=server, message=message).get("mcp_response") or {}

"""The options that are functions of the host, as functions that ask it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, cast

from agenthost.runner.journal import Journal
from agenthost.runner.mcp_relay import RelayedServer
from agenthost.runner.requests import HostError, Requests
from agenthost.runner.sdk import Sdk

_NOBODY = "nobody was there to decide this in time"


def relayed_options(
    sdk: Sdk, asked: Mapping[str, Any], requests: Requests, journal: Journal, *, hook_timeout: float
) -> dict[str, Any]:
    """Return the fields of the SDK's options that the host asked to be called for.

    Args:
        asked: What the host has: ``can_use_tool``, ``hooks``, ``servers`` and ``store``.
        requests: Whom to ask.
        journal: Where appends to the session store go.
        hook_timeout: Seconds after which the CLI gives a hook up. The user's own timeout is counted by the
            host, which alone knows since when it runs.
    """
    found: dict[str, Any] = {}
    if asked.get("can_use_tool"):
        found["can_use_tool"] = _can_use_tool(sdk, requests)
    hooks: dict[str, list[dict[str, Any]]] = asked.get("hooks") or {}
    if hooks:
        found["hooks"] = {
            event: [
                _matcher(sdk, requests, event, place, matcher, hook_timeout)
                for place, matcher in enumerate(matchers)
            ]
            for event, matchers in hooks.items()
        }
    servers: dict[str, dict[str, Any]] = asked.get("servers") or {}
    if servers:
        found["mcp_servers"] = {
            name: {**config, "instance": RelayedServer(name, requests)} for name, config in servers.items()
        }
    if asked.get("store"):
        found["session_store"] = relayed_store(asked["store"], requests, journal, sdk)
    return found


def _can_use_tool(sdk: Sdk, requests: Requests) -> Callable[..., Any]:
    def deny() -> Any:
        return sdk.module.PermissionResultDeny(message=_NOBODY)

    async def can_use_tool(tool_name: str, tool_input: dict[str, Any], context: Any) -> Any:
        return await requests.ask(
            "can_use_tool", denial=deny, tool_name=tool_name, input=tool_input, context=context
        )

    return can_use_tool


def _matcher(
    sdk: Sdk, requests: Requests, event: str, place: int, matcher: Mapping[str, Any], timeout: float
) -> Any:
    def deny() -> Any:
        verdict: dict[str, Any]
        if event == "PreToolUse":
            verdict = {"permissionDecision": "deny", "permissionDecisionReason": _NOBODY}
        elif event == "PermissionRequest":
            verdict = {"decision": {"behavior": "deny", "message": _NOBODY}}
        else:
            raise HostError(_NOBODY)
        return {"hookSpecificOutput": {"hookEventName": event, **verdict}}

    async def hook(number: int, hook_input: Any, tool_use_id: str | None, _context: Any) -> Any:
        return await requests.ask(
            "hook",
            denial=deny,
            event=event,
            matcher=place,
            hook=number,
            input=hook_input,
            tool_use_id=tool_use_id,
        )

    settings = {name: matcher[name] for name in ("matcher", "on_failure") if matcher.get(name) is not None}
    hooks = [functools.partial(hook, number) for number in range(matcher["hooks"])]
    return sdk.module.HookMatcher(hooks=hooks, timeout=timeout, **settings)


def relayed_store(methods: list[str], requests: Requests, journal: Journal, sdk: Sdk) -> Any:
    """Return a session store with just these methods: the SDK looks at which ones there are."""

    async def append(_store: object, key: Any, entries: list[Any]) -> None:
        journal.emit("store_append", key=sdk.codec.encode(key), entries=sdk.codec.encode(entries))
        await journal.wait_for_room()

    def asking(method: str) -> Callable[..., Any]:
        async def ask(_store: object, key: Any) -> Any:
            return await requests.ask("store", method=method, key=key)

        return ask

    members = {name: append if name == "append" else asking(name) for name in methods}
    return cast("Any", type("RelayedStore", (), members)())

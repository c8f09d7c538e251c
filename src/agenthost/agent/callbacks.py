"""The options that are functions of this process: what an agent in a sandbox may ask it for."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from agenthost.agent.tool_rules import can_read
from agenthost.errors import ConfigError

# What an agent may ask of a session store beside appending: what the SDK calls to resume a session. Not
# ``delete``, which no agent needs.
STORE_QUESTIONS = ("load", "list_sessions", "list_session_summaries", "list_subkeys")


@dataclass(slots=True)
class Callbacks:
    """Functions and live objects, taken out of the options.

    Attributes:
        can_use_tool: Decides about a tool call.
        hooks: The SDK's HookMatcher objects by event.
        servers: The configs of in-process MCP servers, with their instances.
        store: A session store.
        stderr: Called with each line that the CLI prints to stderr.
    """

    can_use_tool: Callable[[str, dict[str, Any], Any], Awaitable[Any]] | None = None
    hooks: dict[str, list[Any]] = field(default_factory=dict[str, list[Any]])
    servers: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    store: Any = None
    stderr: Callable[[str], None] | None = None

    def describe(self) -> dict[str, Any]:
        """Return as data what the runner has to ask for."""
        asked: dict[str, Any] = {}
        if self.can_use_tool is not None:
            asked["can_use_tool"] = True
        if self.hooks:
            asked["hooks"] = {event: list(map(_describe, found)) for event, found in self.hooks.items()}
        if self.servers:
            asked["servers"] = {
                name: {key: value for key, value in config.items() if key != "instance"}
                for name, config in self.servers.items()
            }
        if self.store is not None:
            asked["store"] = ["append", *(name for name in STORE_QUESTIONS if _implements(self.store, name))]
        return asked


def take_callbacks(given: dict[str, Any]) -> Callbacks:
    """Take the functions and live objects out of the options' fields.

    Raises:
        ConfigError: One has the wrong shape.
    """
    hooks, servers = _take_hooks(given.pop("hooks", None)), _take_servers(given)
    if servers:
        _check_matchers(hooks)
    return Callbacks(
        can_use_tool=_callable(given, "can_use_tool"),
        hooks=hooks,
        servers=servers,
        store=given.pop("session_store", None),
        stderr=_callable(given, "stderr"),
    )


def _callable(given: dict[str, Any], name: str) -> Any:
    function = given.pop(name, None)
    if function is not None and not callable(function):
        raise ConfigError(f"options.{name} is a {type(function).__name__}; it must be a function")
    return function


def _take_hooks(hooks: Any) -> dict[str, list[Any]]:
    if hooks is None:
        return {}
    if not isinstance(hooks, Mapping):
        raise ConfigError("options.hooks must map events to lists of HookMatcher")
    found: dict[str, list[Any]] = {}
    for event, matchers in cast("Mapping[str, Any]", hooks).items():
        found_here = list(cast("list[Any]", matchers)) if isinstance(matchers, list | tuple) else [None]
        if not all(hasattr(one, "hooks") for one in found_here):
            raise ConfigError(f"options.hooks[{event!r}] must be a list of HookMatcher")
        if found_here:
            found[str(event)] = found_here
    return found


def _check_matchers(hooks: Mapping[str, list[Any]]) -> None:
    """Refuse matchers of which the host cannot say whether they guard a tool of this process."""
    for event in ("PreToolUse", "PermissionRequest"):
        for matcher in hooks.get(event, ()):
            if not can_read(matcher.matcher):
                raise ConfigError(
                    f"options.hooks[{event!r}] has the matcher {matcher.matcher!r:.200}, which the host "
                    "cannot read as the CLI does, and so cannot tell whether the hook guards a tool of an "
                    "in-process MCP server: write it with what regular expressions of JavaScript and of "
                    "Python have in common"
                )


def _take_servers(given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    servers = given.get("mcp_servers")
    if not isinstance(servers, dict):
        return {}
    named = cast("dict[str, Any]", servers)
    live = {name: config for name, config in named.items() if _is_live(config)}
    for name, config in live.items():
        if not callable(getattr(config.get("instance"), "run", None)):
            raise ConfigError(f"options.mcp_servers[{name!r}] is of type 'sdk' and has no server as instance")
    given["mcp_servers"] = {name: config for name, config in named.items() if name not in live}
    if not given["mcp_servers"]:
        del given["mcp_servers"]
    return live


def _is_live(config: Any) -> bool:
    return isinstance(config, dict) and cast("dict[str, Any]", config).get("type") == "sdk"


def _describe(matcher: Any) -> dict[str, Any]:
    described: dict[str, Any] = {"hooks": len(matcher.hooks)}
    for name in ("matcher", "on_failure"):
        if getattr(matcher, name, None) is not None:
            described[name] = getattr(matcher, name)
    return described


def _implements(store: Any, method: str) -> bool:
    """Return whether a store has a method of its own; what it inherits from the protocol is not there."""
    if not callable(getattr(store, method, None)):
        return False
    sdk: Any = sys.modules.get("claude_agent_sdk")
    own = getattr(store.__class__, method, None)
    return sdk is None or own is not getattr(sdk.SessionStore, method, None)

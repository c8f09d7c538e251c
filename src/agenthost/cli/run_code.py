"""What of a config's file makes the CLI inside start programs of the file's choice.

Told by the keys and never by what a value says: the CLI reads its settings by rules of its own, and one
that is looked through for words can be written so that they are not found.
"""

from __future__ import annotations

from agenthost.config.shape import Path

# Each is a way to the CLI's own settings: hooks, permissions, variables, addresses. Skills are read from
# the same places, so that the SDK turns these on for them.
OPENING = frozenset({"settings", "extra_args", "setting_sources", "skills"})
# What only chooses a model, bounds what the agent may do or says how it is shown. What the SDK brings in
# later is not among it before somebody has looked.
PLAIN = frozenset(
    {
        *("ack", "credentials", "betas", "client_app", "disallowed_tools", "effort", "fallback_model"),
        *("forward_subagent_text", "include_hook_events", "include_partial_messages", "load_timeout_ms"),
        *("max_budget_usd", "max_buffer_size", "max_thinking_tokens", "max_turns", "model"),
        *("output_format", "session_store_flush", "system_prompt", "task_budget", "thinking", "tools"),
        "verbatim_prompts",
    }
)
PLAIN_DEFAULTS = frozenset({"max_buffer_size", "max_turns"})
# Commands before which the CLI asks; ``auto`` has a model answer.
_ASKING = frozenset({"acceptEdits", "default", "dontAsk", "plan"})
# What the CLI starts, or what decides which program it starts: it inherits the CLI's environment.
STARTED = frozenset({"agents", "cli_path", "env", "mcp_servers", "plugins"})


def opens_settings(path: Path, value: object) -> bool:
    """Tell whether a value of the file is settings of the CLI, or has it read files with settings."""
    if path == ("agent", "defaults"):
        return value == "sdk"  # all of the SDK's defaults: settings are read from everywhere
    if path in (("agent", "setting_sources"), ("agent", "defaults", "setting_sources")):
        return value != []
    return _option(path) in OPENING and value != {}


def may_run_programs(path: Path, value: object) -> bool:
    """Tell whether a value of the file can have programs run where nothing isolates the agent."""
    if value in ([], {}) or opens_settings(path, value):
        return False
    if path[:2] == ("spec", "env"):
        return True  # LD_PRELOAD and its kin
    if path == ("agent", "permission_mode"):
        return value not in _ASKING
    if path in (("agent", "strict_mcp_config"), ("agent", "defaults", "strict_mcp_config")):
        return value is not True
    if path == ("agent", "system_prompt", "path"):
        return True  # no program, but a file of this machine that is sent away
    if path[:2] == ("agent", "defaults"):
        return path[2] not in PLAIN_DEFAULTS
    option = _option(path)
    return option is not None and option not in PLAIN


def may_take_key(path: Path, value: object) -> bool:
    """Tell whether a value of the file chooses a program that sees the CLI's environment, or its own."""
    if value in ([], {}):
        return False
    return path[:2] in (("spec", "env"), ("spec", "image")) or _option(path) in STARTED


def _option(path: Path) -> object:
    return path[1] if len(path) > 1 and path[0] == "agent" else None

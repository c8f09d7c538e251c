"""What a sandboxed agent does otherwise than the SDK's defaults, each by name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SafeDefaults:
    """Defaults for options that are not set. None in a field leaves that one to the SDK.

    An option that is set in ClaudeAgentOptions always wins; one that holds the SDK's own default counts as
    not set, because the two cannot be told apart.

    Attributes:
        setting_sources: No settings from files: an uploaded project can hold hooks. Not applied where
            ``skills`` is set, which needs the files.
        strict_mcp_config: Only the MCP servers of the options.
        max_buffer_size: Longest line from the CLI, in bytes; the SDK's 1 MiB breaks on a large file.
        max_turns: Turns of one prompt.
        config_dir: Where the CLI keeps sessions and settings. ``own`` is a directory of the sandbox's home.
        disable_nonessential_traffic: No telemetry, updates or titles: nothing but the agent's own questions.
        disable_auto_memory: No memory that is kept from one session for the next.
        other_models: Models that the agent may ask beside those that its options name and imply, by name or
            alias: the ``Agent`` tool may choose ``"fable"``, for one, and files of a project may name others.
            None: any model. See docs/model-access.md.
        refuse_model_egress: Where the sandbox's network is none or a list of hosts, requests to the model
            reach nothing else either: no addresses, no files, no tools of the model's service (the CLI's
            WebSearch is one) and no MCP servers.
        other_fields: Names of fields that requests to the model may have there beside those that agenthost
            knows, for a CLI that is newer. None: any. See docs/model-access.md.
        refuse_unisolated_bypass: ``bypassPermissions`` is refused where nothing isolates the agent.
    """

    setting_sources: tuple[str, ...] | None = ()
    strict_mcp_config: bool | None = True
    max_buffer_size: int | None = 64 * 1024 * 1024
    max_turns: int | None = 200
    config_dir: str | None = "own"
    disable_nonessential_traffic: bool | None = True
    disable_auto_memory: bool | None = True
    other_models: tuple[str, ...] | None = ()
    refuse_model_egress: bool | None = True
    other_fields: tuple[str, ...] | None = ()
    refuse_unisolated_bypass: bool | None = True


NO_DEFAULTS = SafeDefaults(
    setting_sources=None,
    strict_mcp_config=None,
    max_buffer_size=None,
    max_turns=None,
    config_dir=None,
    disable_nonessential_traffic=None,
    disable_auto_memory=None,
    other_models=None,
    refuse_model_egress=None,
    other_fields=None,
    refuse_unisolated_bypass=None,
)

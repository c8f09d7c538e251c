"""The table ``[agent]``: those of ClaudeAgentOptions that are data, and what HostedAgent adds to them.

A test holds it against the SDK's own class. The SDK is not imported here: that takes a second.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from agenthost.config.table import Table, Text

# Fields of ClaudeAgentOptions that are functions or live objects: they are given as ``options=``.
NO_DATA = frozenset({"can_use_tool", "debug_stderr", "hooks", "session_store", "stderr"})
# What is no option, but an argument of HostedAgent of its own.
OWN = frozenset({"ack", "credentials", "defaults"})

Effort = Literal["low", "medium", "high", "xhigh", "max"]
PermissionMode = Literal["default", "acceptEdits", "plan", "bypassPermissions", "dontAsk", "auto"]
Source = Literal["user", "project", "local"]
SDK = Literal["sdk"]


class ToolsTable(Table):
    """The SDK's ToolsPreset."""

    type: Literal["preset"]
    preset: Literal["claude_code"]


class PromptTable(Table):
    """The SDK's SystemPromptPreset, SystemPromptCustom and SystemPromptFile."""

    type: Literal["preset", "custom", "file"]
    preset: Literal["claude_code"] | None = None
    append: str | None = None
    exclude_dynamic_sections: bool | None = None
    snapshot: bool | None = None
    prompt: str | None = None
    path: str | None = None


class McpServerTable(Table):
    """The SDK's configurations of MCP servers that run inside or elsewhere."""

    type: Literal["stdio", "sse", "http"] | None = None
    command: str | None = None
    args: list[str] | None = None
    env: dict[str, Text] | None = None
    url: str | None = None
    headers: dict[str, Text] | None = None


class SubagentTable(Table):
    """The SDK's AgentDefinition."""

    description: str
    prompt: str
    tools: list[str] | None = None
    disallowedTools: list[str] | None = None
    model: str | None = None
    skills: list[str] | None = None
    memory: Source | None = None
    mcpServers: list[str | dict[str, Any]] | None = None
    initialPrompt: str | None = None
    maxTurns: int | None = None
    background: bool | None = None
    effort: Effort | int | None = None
    permissionMode: PermissionMode | None = None


class SandboxNetworkTable(Table):
    """The SDK's SandboxNetworkConfig."""

    allowedDomains: list[str] | None = None
    deniedDomains: list[str] | None = None
    allowManagedDomainsOnly: bool | None = None
    allowUnixSockets: list[str] | None = None
    allowAllUnixSockets: bool | None = None
    allowLocalBinding: bool | None = None
    allowMachLookup: list[str] | None = None
    httpProxyPort: int | None = None
    socksProxyPort: int | None = None


class SandboxTable(Table):
    """The SDK's SandboxSettings: the CLI's own sandbox, inside of ours."""

    enabled: bool | None = None
    autoAllowBashIfSandboxed: bool | None = None
    excludedCommands: list[str] | None = None
    allowUnsandboxedCommands: bool | None = None
    network: SandboxNetworkTable | None = None
    ignoreViolations: dict[str, list[str]] | None = None
    enableWeakerNestedSandbox: bool | None = None


class PluginTable(Table):
    """The SDK's SdkPluginConfig."""

    type: Literal["local"]
    path: str


class ThinkingTable(Table):
    """The SDK's ThinkingConfig."""

    type: Literal["adaptive", "enabled", "disabled"]
    budget_tokens: int | None = None
    display: Literal["summarized", "omitted"] | None = None


class BudgetTable(Table):
    """The SDK's TaskBudget."""

    total: int


class DefaultsTable(Table):
    """agenthost.SafeDefaults; ``"sdk"`` is None there: the SDK's own default."""

    setting_sources: list[Source] | SDK | None = None
    strict_mcp_config: bool | SDK | None = None
    max_buffer_size: int | SDK | None = None
    max_turns: int | SDK | None = None
    config_dir: str | None = None
    disable_nonessential_traffic: bool | SDK | None = None
    disable_auto_memory: bool | SDK | None = None
    other_models: list[str] | SDK | None = None
    refuse_model_egress: bool | SDK | None = None
    other_fields: list[str] | SDK | None = None
    refuse_unisolated_bypass: bool | SDK | None = None


class AgentTable(Table):
    """``[agent]``."""

    # Arguments of HostedAgent.
    credentials: Literal["host", "env", "provider"] | None = None
    ack: Literal["auto", "manual"] | None = None
    defaults: DefaultsTable | SDK = DefaultsTable()

    # Fields of ClaudeAgentOptions.
    tools: list[str] | ToolsTable | None = None
    allowed_tools: list[str] | None = None
    system_prompt: str | PromptTable | None = None
    mcp_servers: dict[str, McpServerTable] | None = None
    strict_mcp_config: bool | None = None
    permission_mode: PermissionMode | None = None
    continue_conversation: bool | None = None
    resume: str | None = None
    session_id: str | None = None
    max_turns: int | None = Field(default=None, gt=0)
    max_budget_usd: float | None = Field(default=None, gt=0)
    disallowed_tools: list[str] | None = None
    model: str | None = None
    fallback_model: str | None = None
    betas: list[str] | None = None
    permission_prompt_tool_name: str | None = None
    cwd: str | None = None
    cli_path: str | None = None
    settings: str | None = None
    add_dirs: list[str] | None = None
    env: dict[str, Text] | None = None
    extra_args: dict[str, str | Literal[True]] | None = None
    max_buffer_size: int | None = Field(default=None, gt=0)
    user: str | None = None
    include_partial_messages: bool | None = None
    include_hook_events: bool | None = None
    forward_subagent_text: bool | None = None
    verbatim_prompts: bool | None = None
    fork_session: bool | None = None
    resume_session_at: str | None = None
    resume_drops_turn: str | None = None
    agents: dict[str, SubagentTable] | None = None
    setting_sources: list[Source] | None = None
    skills: list[str] | Literal["all"] | None = None
    sandbox: SandboxTable | None = None
    plugins: list[PluginTable] | None = None
    max_thinking_tokens: int | None = None
    thinking: ThinkingTable | None = None
    effort: Effort | None = None
    output_format: dict[str, Any] | None = None
    enable_file_checkpointing: bool | None = None
    session_store_flush: Literal["batched", "eager"] | None = None
    load_timeout_ms: int | None = None
    task_budget: BudgetTable | None = None
    client_app: str | None = None

"""What ``agenthost run`` was asked for: its options, and behind them what a config says."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from agenthost.agent import Audit, SafeDefaults
from agenthost.agent.plan import DEFAULT_PROVIDER
from agenthost.cli.allow import Allow, may_have_config
from agenthost.cli.transcript import Transcript
from agenthost.registry import open_provider
from agenthost.spec import NetworkPolicy, SandboxSpec

if TYPE_CHECKING:
    from claude_agent_sdk import PermissionMode

    from agenthost.agent.credentials import Credentials
    from agenthost.config import Config
    from agenthost.sandbox import Isolation, SandboxProvider


class KeyIn(Enum):
    """What ``--credentials`` takes."""

    host = "host"
    env = "env"
    provider = "provider"


class Network(Enum):
    """What ``--network`` takes."""

    open = "open"
    none = "none"


_NETWORKS = {Network.open: NetworkPolicy.open(), Network.none: NetworkPolicy.none()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One run. None is what was not said.

    Attributes:
        again: What another command's line needs to find the agent, with a space before it.
    """

    prompt: str
    config: Config | None
    allowed: list[Allow]
    provider: str | None
    model: str | None
    workspace: Path | None
    download: Path | None
    max_turns: int | None
    as_json: bool
    detach: bool
    credentials: KeyIn | None
    network: Network | None
    lifetime: float | None
    again: str = ""

    def find_config(self, path: Path | None) -> Config | None:
        """Return the config that counts, if there is one.

        Raises:
            ConfigError: It makes no sense, or its file says alone what the command line must say, too.
        """
        if not may_have_config(path):
            return None
        from agenthost.cli.run_config import check_file, find_config, require

        config = find_config(path, self.provider)
        if config is not None:
            credentials = None if self.credentials is None else self.credentials.value
            network = self.network is not None
            doubts = check_file(config, provider=self.provider, network=network, credentials=credentials)
            require(config, doubts, self.allowed)
        return config

    def open_provider(self) -> AbstractAsyncContextManager[SandboxProvider]:
        """Return the provider, with the options of its table."""
        config = self.config
        if config is None:
            return open_provider(DEFAULT_PROVIDER if self.provider is None else self.provider)
        name = config.provider if self.provider is None else config.named(self.provider)
        return open_provider(name) if config.limits is None else open_provider(name, limits=config.limits)

    def arguments(self, provider: SandboxProvider, transcript: Transcript) -> dict[str, Any]:
        """Return arguments of HostedAgent.

        Raises:
            ConfigError: The file of the config says alone what the command line must say, too.
            typer.BadParameter: A key inside a sandbox from which no model can be reached.
        """
        capabilities, config = provider.capabilities, self.config
        found: dict[str, Any] = {"spec": SandboxSpec(), "defaults": SafeDefaults()}
        if config is not None:
            from agenthost.agent.configured import safe_defaults
            from agenthost.cli.run_config import check_provider, require

            doubts = check_provider(
                config,
                capabilities,
                provider=self.provider,
                network=self.network is not None,
                credentials=self._credentials(),
            )
            require(config, doubts, self.allowed)
            found = {"spec": config.spec, "defaults": safe_defaults(config), "limits": config.limits}
            if config.audit is not None:
                found["audit"] = Audit(**config.audit)
        if self.network is not None:
            found["spec"] = replace(found["spec"], network=_NETWORKS[self.network])
        if self.lifetime is not None:
            found["spec"] = replace(found["spec"], max_lifetime=self.lifetime)
        found["credentials"] = self._credentials()
        if found["credentials"] == "env":
            if found["spec"].network is None and capabilities.default_network == "none":
                hint = f"it needs --network open: a sandbox on {provider.name} reaches no model by itself"
                raise typer.BadParameter(hint, param_hint="--credentials env")
            transcript.step("the key is put into the sandbox, where the agent can read it")
        return {**found, "options": self._options(capabilities.isolation, transcript)}

    def _credentials(self) -> Credentials:
        if self.credentials is not None:
            return self.credentials.value
        return (None if self.config is None else self.config.credentials) or "host"

    def _options(self, isolation: Isolation, transcript: Transcript) -> dict[str, Any]:
        # A dict and not ClaudeAgentOptions: so the SDK is imported while the sandbox starts.
        options: dict[str, Any] = {"model": self.model, "max_turns": self.max_turns}
        if self.config is not None:
            from agenthost.agent.configured import options_of

            options = options_of(self.config, options)
        options.setdefault("system_prompt", {"type": "preset", "preset": "claude_code"})
        if "permission_mode" not in options:
            options["permission_mode"] = _permission_mode(isolation, transcript)
        return options


def _permission_mode(isolation: Isolation, transcript: Transcript) -> PermissionMode:
    """Let the agent do what it wants where it can harm nothing but its sandbox."""
    if isolation != "none":
        return "bypassPermissions"
    transcript.step("nothing is isolated here: commands that need a permission are refused")
    return "acceptEdits"

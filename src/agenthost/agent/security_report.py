"""How safe an agent would be, told before anything is made: pass, warn or fail, each with what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from agenthost.adapter.cloud import CloudProvider
from agenthost.agent.audit.settings import Audit, audit_settings
from agenthost.agent.credentials import Credentials, check_credentials
from agenthost.agent.defaults import SafeDefaults
from agenthost.agent.options import PlainOptions, plain_options
from agenthost.agent.plan import DEFAULT_PROVIDER
from agenthost.registry import load_provider, open_provider
from agenthost.sandbox import Capabilities, Sandbox, SandboxProvider
from agenthost.spec import Limits, SandboxSpec

Verdict = Literal["pass", "warn", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found about one point.

    Attributes:
        name: The point: ``isolation``, ``mounts`` ...
        verdict: ``fail``: do not run untrusted work so. ``warn``: less than could be had.
        detail: What was found.
        fix: What to do, in one sentence; empty for ``pass``.
    """

    name: str
    verdict: Verdict
    detail: str
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityReport:
    """What was found about an agent that is to be made.

    Attributes:
        provider: The provider's name.
        findings: One for each point, in the order of docs/security.md.
    """

    provider: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing fails."""
        return not any(one.verdict == "fail" for one in self.findings)

    @property
    def strictly_ok(self) -> bool:
        """Whether everything passes."""
        return all(one.verdict == "pass" for one in self.findings)

    def finding(self, name: str) -> Finding:
        """Return the finding about one point. KeyError where there is no such point."""
        found = next((one for one in self.findings if one.name == name), None)
        if found is None:
            raise KeyError(name)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        findings = [asdict(one) for one in self.findings]
        return {
            "provider": self.provider,
            "ok": self.ok,
            "strictly_ok": self.strictly_ok,
            "findings": findings,
        }

    def __str__(self) -> str:
        """Return a line for each point."""
        return "\n".join(_lines(self.findings))


def _lines(findings: tuple[Finding, ...]) -> Iterator[str]:
    for one in findings:
        yield f"{one.verdict:<5} {one.name}: {one.detail}" + (f" -> {one.fix}" if one.fix else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What is judged: the arguments of a HostedAgent, completed by their defaults.

    Attributes:
        is_remote: Whether the sandbox runs on a vendor's machines.
    """

    provider: str
    capabilities: Capabilities
    is_remote: bool
    options: PlainOptions
    spec: SandboxSpec
    limits: Limits
    defaults: SafeDefaults
    credentials: Credentials
    audit: Audit

    @property
    def network(self) -> str:
        """The mode of the sandbox's network."""
        return self.capabilities.default_network if self.spec.network is None else self.spec.network.mode

    @property
    def is_machine(self) -> bool:
        """Whether the sandbox is a machine of its own, whose size bounds what it takes."""
        return self.capabilities.isolation in ("gvisor", "microvm")

    def option(self, name: str) -> Any:
        """Return an option as it would be used: with what SafeDefaults fills in."""
        value = self.options.fields.get(name)
        if value is None and name in ("max_turns", "setting_sources", "strict_mcp_config"):
            return getattr(self.defaults, name)
        return value


def make_report(
    *,
    options: object,
    provider: str | SandboxProvider | None,
    sandbox: Sandbox | None,
    spec: SandboxSpec | None,
    limits: Limits | None,
    defaults: SafeDefaults,
    credentials: Credentials,
    audit: object,
) -> SecurityReport:
    """Judge what a HostedAgent was given. Nothing is made, and nothing is asked over a network.

    Raises:
        ConfigError: The arguments make no sense, or the provider does not exist.
        IsolationUnavailableError: The provider cannot be used on this machine.
    """
    from agenthost.agent.security_checks import CHECKS

    check_credentials(credentials)
    name, capabilities, is_remote = _place(provider, sandbox)
    setup = Setup(
        provider=name,
        capabilities=capabilities,
        is_remote=is_remote,
        options=plain_options(options),
        spec=spec or SandboxSpec(),
        limits=limits or Limits(),
        defaults=defaults,
        credentials=credentials,
        audit=audit_settings(audit) or Audit(level="off"),
    )
    return SecurityReport(provider=name, findings=tuple(check(setup) for check in CHECKS))


def _place(provider: str | SandboxProvider | None, sandbox: Sandbox | None) -> tuple[str, Capabilities, bool]:
    """Return the provider's name, what its sandboxes can do, and whether they are on a vendor's machines.

    Its credentials are not needed where its class tells.
    """
    if sandbox is not None:
        # Only its isolation tells where it is.
        own = sandbox.capabilities
        return sandbox.provider, own, own.isolation in ("gvisor", "microvm")
    if provider is not None and not isinstance(provider, str):
        return provider.name, provider.capabilities, isinstance(provider, CloudProvider)
    name = DEFAULT_PROVIDER if provider is None else provider
    made: object = load_provider(name)
    found: object = getattr(made, "capabilities", None)
    if not isinstance(found, Capabilities):
        # Some know what they can do only when they have looked at the machine.
        return _place(open_provider(name), None)
    return str(name), found, isinstance(made, type) and issubclass(made, CloudProvider)

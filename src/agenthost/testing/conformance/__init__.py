"""What a sandbox and a hosted agent must do, as checks to subclass. docs/contract.md has the clauses."""

from agenthost.testing.conformance.agent import HostedAgentConformance
from agenthost.testing.conformance.clauses import Clause, checks_of
from agenthost.testing.conformance.sandbox import SandboxConformance

__all__ = ["Clause", "HostedAgentConformance", "SandboxConformance", "checks_of"]

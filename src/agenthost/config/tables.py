"""What may stand in ``agenthost.toml``, table by table. What is not set is left to the library."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from agenthost.config.agent_table import AgentTable
from agenthost.config.table import Reference, Table

Above0 = Field(default=None, gt=0)
AtLeast0 = Field(default=None, ge=0)


class Allowed(Table):
    """A network of some hosts."""

    shown: ClassVar[str] = 'a table { allow = ["pypi.org"] }'

    allow: list[str]


class LimitsOfSandbox(Table):
    """Hard caps: agenthost.ResourceLimits."""

    memory_mib: int | None = Above0
    cpu: float | None = Above0
    cpu_weight: int | None = Above0
    pids: int | None = Above0
    disk_mib: int | None = Above0
    inodes: int | None = Above0
    core_mib: int | None = Above0


class MountTable(Table):
    """agenthost.Mount."""

    shown: ClassVar[str] = "a table { source = ..., target = ... }"

    source: str
    target: str


class InjectTable(Table):
    """agenthost.HeaderInjection."""

    shown: ClassVar[str] = "a table { host = ..., header = ..., secret = { env = ... } }"

    host: str
    header: str
    secret: Reference


class SpecTable(Table):
    """agenthost.SandboxSpec."""

    name: str | None = None
    image: str | None = None
    cpu: float | None = Above0
    memory_mib: int | None = Above0
    disk_mib: int | None = Above0
    limits: LimitsOfSandbox = LimitsOfSandbox()
    env: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    workdir: str | None = None
    max_lifetime: float | None = Above0
    lease: float | None = Above0
    network: Literal["open", "none"] | Allowed | None = None
    mounts: list[MountTable] | None = None
    inject: list[InjectTable] | None = None
    region: str | None = None
    provider_options: dict[str, Any] | None = None


class LimitsTable(Table):
    """agenthost.Limits."""

    host_away: float | None = AtLeast0
    decision_wait: float | None = AtLeast0
    start: float | None = AtLeast0
    close: float | None = AtLeast0
    link_budget: float | None = AtLeast0
    call_timeout: float | None = AtLeast0
    request_bytes: int | None = AtLeast0
    model_requests: int | None = AtLeast0
    model_tokens: int | None = AtLeast0
    model_usd: float | None = AtLeast0


class AuditTable(Table):
    """agenthost.Audit."""

    level: Literal["off", "digest", "full"] | None = None
    directory: str | None = None


class Tables(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid")

    provider: str | None = None
    providers: dict[str, dict[str, Any]] | None = None
    spec: SpecTable = SpecTable()
    agent: AgentTable = AgentTable()
    limits: LimitsTable = LimitsTable()
    audit: AuditTable = AuditTable()

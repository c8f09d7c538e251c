"""The security report: what would be made is judged before anything is, with a way to mend each point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from claude_agent_sdk import AgentDefinition

from agenthost import (
    Audit,
    HostedAgent,
    Mount,
    NetworkPolicy,
    ResourceLimits,
    SafeDefaults,
    SandboxSpec,
)
from agenthost.errors import ConfigError
from agenthost.statedir import state_directory
from agenthost.testing import FakeCLI

ROOT = Path(__file__).parent.parent.parent
CAPS = ResourceLimits(memory_mib=1024, pids=100)
GOOD: dict[str, Any] = {
    "options": {
        "max_turns": 10,
        "max_budget_usd": 1.0,
        "permission_mode": "dontAsk",
        "allowed_tools": ["Bash"],
    },
    "provider": "docker",
    "spec": SandboxSpec(limits=CAPS),
    "audit": "digest",
}


def judged(changes: dict[str, Any], **options: Any) -> dict[str, str]:
    """Return the verdicts that are not ``pass``."""
    arguments = {**GOOD, **changes}
    arguments["options"] = {**arguments["options"], **options}
    report = HostedAgent(**arguments).security_report()
    assert [one.name for one in report.findings if (one.verdict == "pass") != (one.fix == "")] == []
    return {one.name: one.verdict for one in report.findings if one.verdict != "pass"}


def test_the_production_example_fails_nowhere_and_the_disk_alone_has_no_cap() -> None:
    report = HostedAgent.from_config(ROOT / "examples" / "production.toml").security_report()
    assert report.ok
    assert [one.name for one in report.findings if one.verdict != "pass"] == ["disk"]
    assert report.strictly_ok == (report.finding("disk").verdict == "pass")


def test_everything_passes_on_a_machine_of_its_own_without_a_credential_of_its_vendor() -> None:
    spec = SandboxSpec(network=NetworkPolicy.none())
    assert judged({"provider": "vercel", "spec": spec}) == {}


def test_an_agent_that_may_do_anything_where_nothing_isolates_it_fails_with_the_reason() -> None:
    agent = HostedAgent({"permission_mode": "bypassPermissions"}, provider="local-unisolated")
    report = agent.security_report()
    assert not report.ok
    isolation, mode = report.finding("isolation"), report.finding("permission mode")
    assert (isolation.verdict, mode.verdict) == ("fail", "fail")
    assert "isolates nothing" in isolation.detail
    assert "bypassPermissions where nothing isolates" in mode.detail
    assert "fail  isolation: local-unisolated isolates nothing" in str(report)


@pytest.mark.parametrize(
    ("changes", "options", "expected"),
    [
        ({}, {}, {"disk": "warn"}),
        ({"audit": None}, {}, {"audit": "warn"}),
        ({"audit": Audit(level="off")}, {}, {"audit": "warn"}),
        ({"spec": SandboxSpec()}, {}, {"memory": "warn", "processes": "warn"}),
        ({"spec": SandboxSpec(limits=ResourceLimits(disk_mib=9))}, {}, {"disk": "fail", "memory": "warn"}),
        ({"spec": SandboxSpec(limits=CAPS, network=NetworkPolicy.open())}, {}, {"network": "warn"}),
        ({"spec": SandboxSpec(limits=CAPS, network=NetworkPolicy.allow(["a"]))}, {}, {"network": "fail"}),
        ({}, {"max_budget_usd": None}, {"turns and budget": "warn", "model requests": "warn"}),
        ({"defaults": None}, {"max_turns": None, "max_budget_usd": None}, {"turns and budget": "fail"}),
        ({}, {"permission_mode": "bypassPermissions"}, {"permission mode": "warn", "blocked tools": "warn"}),
        ({}, {"permission_mode": "default"}, {"blocked tools": "warn"}),
        ({}, {"permission_mode": "default", "disallowed_tools": ["WebFetch", "WebSearch"]}, {"disk": "warn"}),
        ({}, {"permission_mode": "default", "tools": ["Bash"]}, {"disk": "warn"}),
        ({}, {"allowed_tools": ["WebFetch(domain:example.com)"]}, {"blocked tools": "warn"}),
        ({}, {"setting_sources": ["project"]}, {"settings": "warn"}),
        ({}, {"skills": "all"}, {"settings": "warn"}),
        ({"credentials": "env"}, {}, {"credentials": "warn", "model requests": "warn"}),
        ({}, {"env": {"GITHUB_TOKEN": "x"}}, {"credentials": "warn"}),
        ({}, {"env": {"ANTHROPIC_API_KEY": "sk-ant-x"}}, {"disk": "warn"}),
        (
            {},
            {"mcp_servers": {"a": {"type": "http", "url": "https://a", "headers": {"Authorization": "x"}}}},
            {"credentials": "warn"},
        ),
    ],
)
def test_each_point_is_judged_by_itself(
    changes: dict[str, Any], options: dict[str, Any], expected: dict[str, str]
) -> None:
    assert expected.items() <= judged(changes, **options).items()
    if "provider" not in changes:
        assert set(judged(changes, **options)) <= {*expected, "disk", "settings", "memory", "processes"} | (
            {"model requests"} if changes.get("defaults", "") is None else set()
        )


def test_a_key_inside_that_can_be_sent_away_fails() -> None:
    spec = SandboxSpec(limits=CAPS, network=NetworkPolicy.open())
    assert judged({"credentials": "env", "spec": spec})["credentials"] == "fail"


@pytest.mark.parametrize(
    "source",
    [
        "/",
        "/var/run",
        "/var/run/docker.sock",
        "/proc/1",
        "/dev/kvm",
        "~",
        "~/..",
        "~/.ssh",
        "~/.aws/credentials",
        "/etc",
        "/etc/ssh",
        "/home",
        "/home/another-user",
    ],
)
def test_a_mount_by_which_the_host_could_be_taken_fails(source: str) -> None:
    mount = Mount(source=str(Path(source).expanduser()), target="/mnt")
    spec = SandboxSpec(limits=CAPS, mounts=(mount, Mount(source="/usr/share/dict", target="/mnt/dict")))
    assert judged({"spec": spec})["mounts"] == "fail"


def test_agenthosts_own_state_must_not_be_mounted() -> None:
    spec = SandboxSpec(limits=CAPS, mounts=(Mount(source=str(state_directory()), target="/mnt"),))
    assert judged({"spec": spec})["mounts"] == "fail"


def test_a_mount_is_judged_by_where_its_links_lead(tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(Path.home())
    spec = SandboxSpec(limits=CAPS, mounts=(Mount(source=str(tmp_path / "data"), target="/mnt"),))
    assert judged({"spec": spec})["mounts"] == "fail"


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"permission_mode": "bypassPermissions"}, ""),
        ({"extra_args": {"dangerously-skip-permissions": None}}, "extra_args"),
        ({"extra_args": {"permission-mode": "bypassPermissions"}}, "extra_args"),
        ({"settings": '{"permissions": {"defaultMode": "bypassPermissions"}}'}, "settings"),
        (
            {
                "agents": {
                    "own": AgentDefinition(description="d", prompt="p", permissionMode="bypassPermissions")
                }
            },
            "agents.own",
        ),
    ],
)
def test_every_way_to_have_tools_run_unasked_is_named(options: dict[str, Any], where: str) -> None:
    arguments: dict[str, Any] = {**GOOD, "options": {"max_turns": 1, "max_budget_usd": 1.0, **options}}
    finding = HostedAgent(**arguments).security_report().finding("permission mode")
    assert finding.verdict == "warn"
    assert finding.detail.startswith(f"bypassPermissions ({where})" if where else "bypassPermissions:")


@pytest.mark.parametrize(
    ("changes", "options", "point"),
    [
        ({}, {"max_turns": 10**9}, "turns and budget"),
        ({}, {"max_budget_usd": 1e9}, "turns and budget"),
        ({"spec": SandboxSpec(limits=ResourceLimits(memory_mib=2**30, pids=1))}, {}, "memory"),
        ({"defaults": SafeDefaults(other_models=None)}, {}, "model requests"),
        (
            {
                "defaults": SafeDefaults(refuse_model_egress=None),
                "spec": SandboxSpec(limits=CAPS, network=NetworkPolicy.none()),
            },
            {},
            "model requests",
        ),
    ],
)
def test_a_bound_that_bounds_nothing_does_not_pass(
    changes: dict[str, Any], options: dict[str, Any], point: str
) -> None:
    assert judged(changes, **options)[point] == "warn"


def test_a_harmless_mount_passes() -> None:
    spec = SandboxSpec(limits=CAPS, mounts=(Mount(source="/usr/share/dict", target="/mnt"),))
    assert "mounts" not in judged({"spec": spec})


async def test_an_agent_that_runs_already_is_not_judged_by_options_that_are_not_known(tmp_path: Path) -> None:
    cli = FakeCLI().write(tmp_path / "claude")
    async with HostedAgent({"cli_path": cli}, provider="local-unisolated") as agent:
        with pytest.raises(ConfigError, match="runs already"):
            HostedAgent.attach(agent.ref).security_report()

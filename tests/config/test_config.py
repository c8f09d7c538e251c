"""What a config says reaches the library's own values; the tables have every field that these have."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_type_hints

import claude_agent_sdk as sdk
import pytest
from pydantic import BaseModel
from support.installed import said_by
from support.written import loaded, write

from agenthost import Audit, SafeDefaults, open_provider
from agenthost.agent.plan import DEFAULT_PROVIDER
from agenthost.config import agent_table, load, load_config, tables
from agenthost.spec import (
    HeaderInjection,
    Limits,
    Mount,
    NetworkPolicy,
    ResourceLimits,
    SandboxSpec,
)

WHOLE = """
provider = "local"

[providers.local]
bwrap = "/usr/bin/bwrap"
secret = { env = "MY_DEPLOYMENT" }

[spec]
name = "one"
image = "python:3.13"
cpu = 2
memory_mib = 1024
disk_mib = 4096
workdir = "/srv"
max_lifetime = 600
lease = 60.5
network = { allow = ["pypi.org"] }
region = "fra"

[spec.limits]
memory_mib = 2048
cpu = 0.5
pids = 100

[spec.env]
DEBUG = "1"

[spec.labels]
team = "a"

[[spec.mounts]]
source = "/data"
target = "/mnt"

[[spec.inject]]
host = "api.example.com"
header = "Authorization"
secret = { env = "MY_INJECTED" }

[spec.provider_options]
tmp_mib = 64

[agent]
credentials = "env"
ack = "manual"
model = "sonnet"
max_turns = 5
permission_mode = "plan"
allowed_tools = ["Read"]
system_prompt = { type = "preset", preset = "claude_code", append = "Be brief." }
extra_args = { debug = true, name = "x" }
include_partial_messages = true

[agent.env]
PLAIN = "text"
GITHUB_TOKEN = { env = "MY_GITHUB" }

[agent.mcp_servers.db]
command = "psql-mcp"
env = { PGPASSWORD = { env = "MY_GITHUB" }, env = "a name that is no reference" }

[agent.mcp_servers.web]
type = "http"
url = "https://example.com/mcp"
headers = { Authorization = { env = "MY_INJECTED" }, Accept = "text/plain" }

[agent.agents.reviewer]
description = "reviews"
prompt = "Review."

[agent.defaults]
setting_sources = ["project"]
max_turns = "sdk"
refuse_unisolated_bypass = false

[limits]
start = 30
request_bytes = 1000
"""


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MY_DEPLOYMENT", "MY_INJECTED", "MY_GITHUB"):
        monkeypatch.setenv(name, f"hidden-value-of-{name}")


@pytest.mark.usefixtures("secrets")
def test_everything_that_a_file_says_arrives(tmp_path: Path) -> None:
    config = loaded(tmp_path, WHOLE)
    assert config.path == tmp_path / "agenthost.toml"
    assert config.provider == "local"
    assert config.provider.options == {"bwrap": "/usr/bin/bwrap", "secret": "hidden-value-of-MY_DEPLOYMENT"}
    assert config.spec == SandboxSpec(
        name="one",
        image="python:3.13",
        cpu=2,
        memory_mib=1024,
        disk_mib=4096,
        limits=ResourceLimits(memory_mib=2048, cpu=0.5, pids=100),
        env={"DEBUG": "1"},
        labels={"team": "a"},
        workdir="/srv",
        max_lifetime=600,
        lease=60.5,
        network=NetworkPolicy.allow(["pypi.org"]),
        mounts=(Mount(source="/data", target="/mnt"),),
        inject=(
            HeaderInjection(
                host="api.example.com", header="Authorization", secret="hidden-value-of-MY_INJECTED"
            ),
        ),
        region="fra",
        provider_options={"tmp_mib": 64},
    )
    assert config.limits == Limits(start=30, request_bytes=1000)
    assert (config.credentials, config.ack) == ("env", "manual")
    assert config.defaults == {
        "setting_sources": ("project",),
        "max_turns": None,
        "refuse_unisolated_bypass": False,
    }
    assert config.options == {
        "model": "sonnet",
        "max_turns": 5,
        "permission_mode": "plan",
        "allowed_tools": ["Read"],
        "system_prompt": {"type": "preset", "preset": "claude_code", "append": "Be brief."},
        "extra_args": {"debug": None, "name": "x"},
        "include_partial_messages": True,
        "env": {"PLAIN": "text", "GITHUB_TOKEN": "hidden-value-of-MY_GITHUB"},
        "mcp_servers": {
            "db": {
                "command": "psql-mcp",
                "env": {
                    "PGPASSWORD": "hidden-value-of-MY_GITHUB",
                    "env": "a name that is no reference",
                },
            },
            "web": {
                "type": "http",
                "url": "https://example.com/mcp",
                "headers": {"Authorization": "hidden-value-of-MY_INJECTED", "Accept": "text/plain"},
            },
        },
        "agents": {"reviewer": {"description": "reviews", "prompt": "Review."}},
    }


@pytest.mark.usefixtures("secrets")
def test_no_secret_is_in_what_a_config_prints(tmp_path: Path) -> None:
    config = loaded(tmp_path, WHOLE)
    assert "hidden" not in f"{config!r} {config} {config.provider!r} {config.sources.values()}"


def test_what_is_not_set_is_left_to_the_library(tmp_path: Path) -> None:
    config = loaded(tmp_path, "")
    assert config.provider == DEFAULT_PROVIDER == load.DEFAULT_PROVIDER
    assert (config.spec, config.limits, config.options) == (SandboxSpec(), None, {})
    assert (config.credentials, config.ack, config.defaults) == (None, None, {})


def test_the_sdks_own_defaults_are_a_word(tmp_path: Path) -> None:
    assert loaded(tmp_path, '[agent]\ndefaults = "sdk"').defaults is None


@pytest.mark.parametrize("mode", ["open", "none"])
def test_a_network_is_a_word_or_a_list_of_hosts(tmp_path: Path, mode: str) -> None:
    assert loaded(tmp_path, f'[spec]\nnetwork = "{mode}"').spec.network == getattr(NetworkPolicy, mode)()


def test_the_file_may_be_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTHOST_CONFIG", str(write(tmp_path, "[spec]\ncpu = 1")))
    assert load_config().spec.cpu == 1
    other = tmp_path / "other.toml"
    other.write_text("[spec]\ncpu = 2")
    assert load_config(other).spec.cpu == 2


async def test_a_provider_is_opened_with_the_options_of_its_table(tmp_path: Path) -> None:
    state = tmp_path / "state"
    text = f'provider = "local-unisolated"\n[providers.local-unisolated]\nstate_dir = "{state}"'
    config = loaded(tmp_path, text)
    async with open_provider(config.provider) as provider:
        sandbox = await provider.create(config.spec)
        assert [path.name for path in state.glob("*/*")] == [sandbox.name]
        await sandbox.terminate()


def test_options_of_a_provider_that_is_not_chosen_are_looked_at_when_it_is(tmp_path: Path) -> None:
    """Its package may be missing here, and its secrets may not be set."""
    config = loaded(tmp_path, "[providers.local-unisolated]\nbwrap = 3")
    with pytest.raises(ValueError, match="there is no such key"):
        config.named("local-unisolated")


@pytest.mark.parametrize(
    ("table", "counterpart"),
    [
        (tables.SpecTable, SandboxSpec),
        (tables.LimitsOfSandbox, ResourceLimits),
        (tables.LimitsTable, Limits),
        (tables.MountTable, Mount),
        (tables.InjectTable, HeaderInjection),
        (agent_table.DefaultsTable, SafeDefaults),
        (tables.AuditTable, Audit),
    ],
)
def test_each_table_has_the_fields_of_what_it_becomes(table: type[BaseModel], counterpart: Any) -> None:
    assert set(table.model_fields) == {one.name for one in dataclasses.fields(counterpart)}


def test_the_table_of_the_agent_has_every_option_of_the_sdk_that_is_data() -> None:
    options = {one.name for one in dataclasses.fields(sdk.ClaudeAgentOptions)}
    assert set(agent_table.AgentTable.model_fields) - agent_table.OWN == options - agent_table.NO_DATA
    assert options >= agent_table.NO_DATA


@pytest.mark.parametrize(
    ("table", "names"),
    [
        (agent_table.ToolsTable, ["ToolsPreset"]),
        (agent_table.PromptTable, ["SystemPromptPreset", "SystemPromptCustom", "SystemPromptFile"]),
        (agent_table.McpServerTable, ["McpStdioServerConfig", "McpSSEServerConfig", "McpHttpServerConfig"]),
        (agent_table.SubagentTable, ["AgentDefinition"]),
        (agent_table.PluginTable, ["SdkPluginConfig"]),
        (
            agent_table.ThinkingTable,
            ["ThinkingConfigAdaptive", "ThinkingConfigEnabled", "ThinkingConfigDisabled"],
        ),
        (agent_table.SandboxTable, ["SandboxSettings"]),
        (agent_table.SandboxNetworkTable, ["SandboxNetworkConfig"]),
        (agent_table.BudgetTable, ["TaskBudget"]),
    ],
)
def test_tables_in_it_have_the_keys_of_the_sdks_own_types(table: type[BaseModel], names: list[str]) -> None:
    theirs = {key for name in names for key in get_type_hints(getattr(sdk.types, name))}
    assert set(table.model_fields) == theirs


def test_loading_a_config_imports_no_sdk_and_no_other_provider(tmp_path: Path) -> None:
    path = write(tmp_path, 'provider = "local-unisolated"\n[agent]\nmodel = "x"\n[agent.agents]\n')
    program = f"""
    import sys
    from agenthost import load_config
    load_config({str(path)!r})
    print(sorted({{"claude_agent_sdk", "agenthost.providers.local.provider"}} & set(sys.modules)))
    """
    assert said_by(program, tmp_path) == "[]"

"""Options become plain data, or are refused by name before anything is made."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from claude_agent_sdk import (
    AgentDefinition,
    ClaudeAgentOptions,
    HookMatcher,
    InMemorySessionStore,
    create_sdk_mcp_server,
)
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, SpanContext, TraceFlags, use_span

from agenthost.agent.defaults import SafeDefaults
from agenthost.agent.options import PlainOptions, apply_defaults, plain_options
from agenthost.agent.plan import check_isolation, check_network, check_paths, make_plan
from agenthost.errors import ConfigError, MissingCredentialError, UnsupportedError
from agenthost.spec import NetworkPolicy, SandboxSpec
from agenthost.wire.codec import Codec

CODEC = Codec({})


def plan(options: object = None, **changes: Any) -> Any:
    arguments: dict[str, Any] = {
        "options": options,
        "provider": None,
        "sandbox": None,
        "spec": None,
        "workspace": None,
        "credentials": "host",
        "limits": None,
        "defaults": SafeDefaults(),
        "on_progress": None,
    }
    return make_plan(**{**arguments, **changes})


@pytest.fixture(autouse=True)
def no_key_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tuple(os.environ):
        if name.startswith(("ANTHROPIC_", "TRACE")):
            monkeypatch.delenv(name)


def test_only_what_differs_from_the_default_crosses() -> None:
    plain = plain_options(ClaudeAgentOptions())

    assert plain.fields == {}
    assert plain.encode(CODEC) == {}


def test_values_cross_as_they_are_and_paths_as_text() -> None:
    agents = {"a": AgentDefinition(description="d", prompt="p", maxTurns=3)}
    options = ClaudeAgentOptions(
        model="m", add_dirs=[Path("/srv"), "/x"], cwd=Path("/w"), agents=agents, env={"A": "1"}, max_turns=0
    )

    encoded = plain_options(options).encode(CODEC)

    assert encoded["model"] == "m"
    assert encoded["add_dirs"] == ["/srv", "/x"]
    assert encoded["cwd"] == "/w"
    assert encoded["env"] == {"A": "1"}
    assert encoded["max_turns"] == 0
    assert encoded["agents"]["a"]["$type"] == "AgentDefinition"
    assert Codec({"AgentDefinition": AgentDefinition}).decode(encoded["agents"]) == agents


def test_a_dict_of_fields_needs_no_sdk() -> None:
    plain = plain_options({"model": "m", "hooks": None})

    assert plain.encode(CODEC) == {"model": "m"}


def test_stderr_stays_on_the_host() -> None:
    lines: list[str] = []
    plain = plain_options(ClaudeAgentOptions(stderr=lines.append))

    assert plain.callbacks.stderr == lines.append
    assert plain.fields == {}


async def allow(*_: object) -> Any:
    raise NotImplementedError


def test_functions_and_live_objects_stay_on_the_host_and_are_described() -> None:
    store, server = InMemorySessionStore(), create_sdk_mcp_server("calc")
    plain = plain_options(
        ClaudeAgentOptions(
            can_use_tool=allow,
            hooks={"PreToolUse": [HookMatcher(matcher="Bash", hooks=[allow, allow], timeout=3)]},
            mcp_servers={"calc": server, "out": {"command": "x"}},
            session_store=store,
        )
    )

    assert plain.encode(CODEC) == {"mcp_servers": {"out": {"command": "x"}}}
    assert plain.callbacks.describe() == {
        "can_use_tool": True,
        "hooks": {"PreToolUse": [{"matcher": "Bash", "hooks": 2}]},
        "servers": {"calc": {"type": "sdk", "name": "calc"}},
        "store": ["append", "load", "list_sessions", "list_session_summaries", "list_subkeys"],
    }


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"can_use_tool": 5}, "options.can_use_tool"),
        ({"stderr": "x"}, "options.stderr"),
        ({"hooks": [1]}, "options.hooks"),
        ({"hooks": {"Stop": [allow]}}, r"options.hooks\['Stop'\]"),
        ({"mcp_servers": {"calc": {"type": "sdk", "name": "calc"}}}, r"options.mcp_servers\['calc'\]"),
    ],
)
def test_a_callback_of_the_wrong_shape_is_refused_by_name(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        plain_options(options)


def test_a_value_that_is_no_data_is_refused_by_name_before_anything_is_made() -> None:
    with pytest.raises(ConfigError, match=r"options\.extra_args\['x'\] is of type type, which cannot"):
        plan({"extra_args": {"x": socket.socket}, "env": {"ANTHROPIC_API_KEY": "k"}})


@pytest.mark.parametrize("options", [7, "text", ClaudeAgentOptions])
def test_options_of_another_kind_are_refused(options: object) -> None:
    with pytest.raises(ConfigError, match="ClaudeAgentOptions or a mapping"):
        plain_options(options)


def test_defaults_fill_in_only_what_was_not_set() -> None:
    plain = plain_options(ClaudeAgentOptions(max_turns=3, env={"CLAUDE_CONFIG_DIR": "/mine"}))

    apply_defaults(plain, SafeDefaults(), config_dir="/home/x")

    assert plain.fields["max_turns"] == 3
    assert plain.fields["setting_sources"] == []
    assert plain.fields["strict_mcp_config"] is True
    assert plain.fields["max_buffer_size"] == 64 << 20
    assert plain.env == {
        "CLAUDE_CONFIG_DIR": "/mine",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
    }


def test_a_default_that_is_none_is_left_to_the_sdk() -> None:
    plain = PlainOptions()
    nothing = dict.fromkeys(SafeDefaults.__dataclass_fields__)

    apply_defaults(plain, SafeDefaults(**nothing), config_dir="/home/x")

    assert (plain.fields, plain.env) == ({}, {})


def test_skills_keep_the_setting_sources_that_they_need() -> None:
    plain = plain_options(ClaudeAgentOptions(skills="all"))

    apply_defaults(plain, SafeDefaults(), config_dir="/home/x")

    assert "setting_sources" not in plain.fields


def test_options_that_name_places_are_found() -> None:
    options = ClaudeAgentOptions(
        cwd="/c",
        cli_path="/cli",
        settings="/s.json",
        mcp_servers="/m.json",
        add_dirs=["/a"],
        system_prompt={"type": "file", "path": "/p"},
        plugins=[{"type": "local", "path": "/plug"}],
    )

    assert plain_options(options).paths() == {
        "cwd": "/c",
        "cli_path": "/cli",
        "settings": "/s.json",
        "mcp_servers": "/m.json",
        "add_dirs[0]": "/a",
        "system_prompt": "/p",
        "plugins[0]": "/plug",
    }


def test_inline_json_is_no_place() -> None:
    assert plain_options(ClaudeAgentOptions(settings='{"a": 1}', mcp_servers="{}")).paths() == {}


def test_a_cwd_of_the_host_is_an_error_that_names_workspace(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"options\.cwd.* exists on this machine.*workspace="):
        check_paths({"cwd": str(tmp_path)}, {"cwd"})
    with pytest.raises(ConfigError, match="no such place"):
        check_paths({"cwd": "/nowhere/at/all"}, {"cwd"})
    check_paths({"cwd": "/workspace"}, set())


def test_a_key_in_the_options_is_taken_out_and_used_on_the_host() -> None:
    made = plan(ClaudeAgentOptions(env={"ANTHROPIC_API_KEY": "sk-1", "OTHER": "x"}))

    assert made.options.env == {"OTHER": "x"}
    assert made.access.headers() == (("x-api-key", "sk-1"),)
    assert made.access.base_url == "https://api.anthropic.com"
    assert "sk-1" not in repr(made)


def test_a_token_base_url_and_headers_are_taken_out_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-host")
    env = {
        "ANTHROPIC_AUTH_TOKEN": "tok",
        "ANTHROPIC_BASE_URL": "https://gate.example/",
        "ANTHROPIC_CUSTOM_HEADERS": "X-Tenant: seven\nnonsense",
    }

    made = plan({"env": env})

    assert made.options.env == {}
    assert made.access.base_url == "https://gate.example"
    assert made.access.headers() == (("authorization", "Bearer tok"), ("x-tenant", "seven"))


def test_a_key_in_inline_settings_is_taken_out_and_comes_before_that_of_the_options() -> None:
    env = {"ANTHROPIC_API_KEY": "sk-2", "ANTHROPIC_BASE_URL": "https://gate.example", "OTHER": "x"}
    settings = json.dumps({"env": env, "model": "m"})

    made = plan({"settings": settings, "env": {"ANTHROPIC_API_KEY": "sk-1"}})

    assert made.access.headers() == (("x-api-key", "sk-2"),)
    assert made.access.base_url == "https://gate.example"
    assert made.options.env == {}
    assert json.loads(made.options.fields["settings"]) == {"env": {"OTHER": "x"}, "model": "m"}
    with pytest.raises(ConfigError, match="CLAUDE_CODE_USE_BEDROCK"):
        plan({"settings": '{"env": {"CLAUDE_CODE_USE_BEDROCK": "1"}}', "env": env})


def test_a_program_that_prints_the_key_is_named_in_the_error_and_runs_inside() -> None:
    helped = {"settings": '{"apiKeyHelper": "print-key"}'}

    with pytest.raises(MissingCredentialError, match=r"apiKeyHelper.*credentials='env'"):
        plan(helped)
    assert plan(helped, credentials="env").options.fields == helped


def test_an_mcp_server_that_a_sandbox_without_a_network_cannot_reach_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    servers = {
        "near": create_sdk_mcp_server("near"),
        "inside": {"command": "x"},
        "far": {"type": "http", "url": "http://u:secret@mcp.example:8000/mcp?key=secret"},
        "odd": {"type": "sse", "url": "http://[secret"},
    }
    options = {"mcp_servers": servers, "env": {"ANTHROPIC_API_KEY": "k"}}

    check_network(plan(options, spec=SandboxSpec(network=NetworkPolicy.open())), "none", "p")
    check_network(plan(options), "open", "p")
    assert caplog.text == ""
    check_network(plan(options), "none", "provider 'p'")

    first, second = caplog.messages
    assert "cannot reach options.mcp_servers['far'], at mcp.example: its sandbox on provider 'p'" in first
    assert "'odd'" in second
    assert "secret" not in caplog.text


def test_without_a_key_the_error_names_the_variable_and_the_option() -> None:
    with pytest.raises(MissingCredentialError, match=r"ANTHROPIC_API_KEY.*ClaudeAgentOptions\.env"):
        plan()
    with pytest.raises(MissingCredentialError, match="ANTHROPIC_API_KEY"):
        plan(credentials="env")


def test_another_way_to_a_model_is_refused_where_its_secret_would_have_to_go_inside() -> None:
    with pytest.raises(ConfigError, match="CLAUDE_CODE_OAUTH_TOKEN"):
        plan({"env": {"CLAUDE_CODE_OAUTH_TOKEN": "t"}})
    assert plan({"env": {"CLAUDE_CODE_OAUTH_TOKEN": "t"}}, credentials="env").access is None


def test_credentials_env_puts_the_hosts_key_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-host")

    made = plan(credentials="env")

    assert made.access is None
    assert made.options.env == {"ANTHROPIC_API_KEY": "sk-host"}


@pytest.mark.parametrize("credentials", ["host", "env"])
def test_what_is_asked_of_the_model_comes_from_the_hosts_environment_where_the_options_do_not_say(
    credentials: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {
        "ANTHROPIC_MODEL": "deep-1",
        "ANTHROPIC_SMALL_FAST_MODEL": "deep-0",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": "deep-0",
        "ANTHROPIC_DEFAULT_MODEL": "deep-2",
        "ANTHROPIC_BETAS": "a-beta",
        "CLAUDE_CODE_SUBAGENT_MODEL": "deep-0",
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "4096",
        "CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS": "1",
    }
    others = {"ANTHROPIC_MODEL_SECRET": "x", "MODEL": "x", "ANTHROPIC_DEFAULT_OPUS_MODEL": "", "OTHER": "x"}
    for name, value in {**asked, **others}.items():
        monkeypatch.setenv(name, value)

    made = plan({"env": {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_MODEL": "mine"}}, credentials=credentials)

    made.options.env.pop("ANTHROPIC_API_KEY", None)
    assert made.options.env == {**asked, "ANTHROPIC_MODEL": "mine"}


SPAN = SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(1))
TRACE = {"TRACEPARENT": f"00-{0xABC:032x}-{0xDEF:016x}-01"}
AMBIENT = {"TRACEPARENT": f"00-{1:032x}-{2:016x}-01", "TRACESTATE": "v=w"}


@pytest.mark.parametrize(
    ("given", "in_span", "found"),
    [
        ({}, True, TRACE),  # and not the state of the trace around
        ({}, False, AMBIENT),
        ({"TRACEPARENT": "mine"}, True, {"TRACEPARENT": "mine"}),
    ],
)
def test_the_current_trace_goes_on_in_the_agent(
    given: dict[str, str], in_span: bool, found: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in AMBIENT.items():
        monkeypatch.setenv(name, value)
    span = NonRecordingSpan(SPAN) if in_span else INVALID_SPAN

    with use_span(span):
        made = plan({"env": {"ANTHROPIC_API_KEY": "k", **given}})

    assert made.options.env == found


def test_credentials_provider_has_the_provider_add_the_key_and_puts_none_inside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "https://models.example:8443/v")
    for name, value, header in (
        ("ANTHROPIC_API_KEY", "sk-host", ("x-api-key", "sk-host")),
        ("ANTHROPIC_AUTH_TOKEN", "bearer-host", ("authorization", "Bearer bearer-host")),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            made = plan(credentials="provider")
        (added,) = made.spec.inject
        assert (added.host, added.header, added.secret) == ("models.example", *header)
        assert made.access is None
        assert made.options.env == {
            "ANTHROPIC_BASE_URL": "https://models.example:8443/v",
            name: "sk-ant-added-by-the-provider",
        }
        assert value not in repr(made)


def test_ways_that_are_not_there_are_refused() -> None:
    with pytest.raises(ConfigError, match="nonsense"):
        plan(credentials="nonsense")


def test_a_workspace_that_is_no_directory_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "nothing"):
        with pytest.raises(ConfigError, match="is not a directory"):
            plan({"env": {"ANTHROPIC_API_KEY": "k"}}, workspace=path)


def test_bypassing_permissions_is_refused_where_nothing_isolates() -> None:
    env = {"ANTHROPIC_API_KEY": "k"}
    bold = plan({"permission_mode": "bypassPermissions", "env": env})

    with pytest.raises(UnsupportedError, match=r"bypassPermissions.*refuse_unisolated_bypass"):
        check_isolation(bold, "none", "provider 'x'")
    check_isolation(bold, "namespaces", "provider 'x'")
    check_isolation(plan({"env": env}), "none", "provider 'x'")
    told = SafeDefaults(refuse_unisolated_bypass=None)
    check_isolation(
        plan({"permission_mode": "bypassPermissions", "env": env}, defaults=told), "none", "provider 'x'"
    )

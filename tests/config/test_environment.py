"""Settings from AGENTHOST_* variables win over the file, and their mistakes name the variable."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.written import loaded, write

from agenthost.config import load_config
from agenthost.errors import ConfigError, UnknownProviderError
from agenthost.spec import Mount, NetworkPolicy, ResourceLimits

SECRET = "sk-ant-api03-0123456789abcdef"


def test_a_variable_wins_over_the_file_and_leaves_the_rest_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "PROVIDER": "local-unisolated",
        "PROVIDERS__LOCAL_UNISOLATED__STATE_DIR": "/state",
        "SPEC__CPU": "1.5",
        "SPEC__NETWORK": '{"allow": ["pypi.org"]}',
        "SPEC__LIMITS__PIDS": "50",
        "SPEC__ENV__Mixed__CASE": "3",
        "SPEC__MOUNTS": '[{"source": "/a", "target": "/b"}]',
        "AGENT__MAX_TURNS": "7",
        "AGENT__ALLOWED_TOOLS": '["Read", "Edit"]',
        "AGENT__FORK_SESSION": "true",
        "AGENT__SYSTEM_PROMPT": "Be brief.",
        "AGENT__DEFAULTS__MAX_TURNS": "sdk",
        "LIMITS__START": "5",
    }.items():
        monkeypatch.setenv(f"AGENTHOST_{name}", value)
    text = """
    provider = "local"
    [spec]
    cpu = 4
    memory_mib = 512
    [spec.limits]
    memory_mib = 100
    pids = 10
    [spec.env]
    A = "1"
    [agent]
    max_turns = 3
    model = "haiku"
    [limits]
    close = 3
    """
    config = loaded(tmp_path, text)
    assert config.provider == "local-unisolated"
    assert config.provider.options == {"state_dir": "/state"}
    assert (config.spec.cpu, config.spec.memory_mib) == (1.5, 512)
    assert config.spec.network == NetworkPolicy.allow(["pypi.org"])
    assert config.spec.limits == ResourceLimits(memory_mib=100, pids=50)
    assert config.spec.env == {"A": "1", "Mixed__CASE": "3"}
    assert config.spec.mounts == (Mount(source="/a", target="/b"),)
    assert config.options == {
        "max_turns": 7,
        "model": "haiku",
        "allowed_tools": ["Read", "Edit"],
        "fork_session": True,
        "system_prompt": "Be brief.",
    }
    assert config.defaults == {"max_turns": None}
    assert config.limits is not None
    assert (config.limits.start, config.limits.close) == (5, 3)


def test_variables_are_a_config_without_any_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTHOST_AGENT__MODEL", "haiku")
    config = load_config()
    assert (config.path, config.options) == (None, {"model": "haiku"})


def test_a_variable_for_a_secret_is_one_itself_and_is_kept_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTHOST_AGENT__ENV__GITHUB_TOKEN", SECRET)
    monkeypatch.setenv("AGENTHOST_PROVIDERS__LOCAL__SECRET", '{"env": "MY_DEPLOYMENT"}')
    monkeypatch.setenv("MY_DEPLOYMENT", "hidden hidden hidden")
    config = load_config()
    assert config.options["env"] == {"GITHUB_TOKEN": SECRET}
    assert config.provider.options == {"secret": "hidden hidden hidden"}
    assert SECRET not in f"{config!r} {config.sources.tree} {config.sources.values()}"


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTHOST_SPEC__CPU", "")
    monkeypatch.setenv("AGENTHOST_AGENT__MODEL", "haiku")
    assert load_config().spec.cpu is None


def test_what_other_programs_set_beside_it_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SERVICE_HOST", "SERVICE_PORT_HTTP", "PORT", "PORT_80_TCP_ADDR", "STATE_DIR", "SECRET"):
        monkeypatch.setenv(f"AGENTHOST_{name}", "whatever it is, 16 bytes")
    monkeypatch.setenv("AGENTHOST_AGENT__MODEL", "haiku")
    assert load_config().options == {"model": "haiku"}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PROVDER", "local", "there is no such setting. Did you mean AGENTHOST_PROVIDER?"),
        ("QUUX", "1", "there is no such setting: unset it"),
        ("SPEC__NETWROK", "open", "there is no such setting. Did you mean AGENTHOST_SPEC__NETWORK?"),
        ("AGENT__ENV", '["A"]', "expected a table, found a list"),
        ("AGENT__MODEL__NAME", "x", "there is no such setting: unset it"),
        ("AGENT__MAX_TURNS", "many", "expected a whole number, found text"),
        ("SPEC__CPU", "-1", "expected a number above 0, found text"),
        ("AGENT__ALLOWED_TOOLS", "Read,Edit", "expected a list as JSON, found text"),
        ("SPEC__LIMITS", "cpu=1", "expected a table as JSON, found text"),
        ("SPEC__MOUNTS", '[{"source": "/a"}]', "[spec] mounts[0].target: it is missing: add it"),
        (
            "SPEC__LIMITS",
            '{"memory_mb": 1}',
            "[spec.limits] memory_mb: there is no such key. Did you mean 'memory_mib'?",
        ),
        (
            "SPEC__NETWORK",
            "opne",
            (
                "expected 'open' or 'none' or a table { allow = [\"pypi.org\"] }, found other text. "
                "Did you mean 'open'?"
            ),
        ),
        (
            "AGENT__MODEL",
            SECRET,
            (
                "what stands there looks like a secret and is not shown: give the name of an environment "
                'variable, as { env = "NAME" }'
            ),
        ),
        (
            "SPEC__ENV__API_KEY",
            "abc",
            "providers show a sandbox's environment, so no secret belongs there: use [agent.env]",
        ),
        ("SPEC__NAME", "Upper", None),
        ("PROVIDERS__LOCAL__BWARP", "x", "there is no such key. Did you mean 'bwrap'?"),
        ("PROVIDER", "locale", None),
    ],
)
def test_a_mistake_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str | None
) -> None:
    monkeypatch.setenv(f"AGENTHOST_{name}", value)
    with pytest.raises(ConfigError) as raised:
        load_config(write(tmp_path, 'provider = "local"'))
    beginning = f"environment variable AGENTHOST_{name}: "
    assert str(raised.value).startswith(beginning)
    assert said is None or str(raised.value) == beginning + said
    assert SECRET not in str(raised.value)


def test_a_provider_that_only_a_variable_knows_is_refused_with_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AGENTHOST_PROVIDERS__LOCALE__BWRAP", "bwrap")
    with pytest.raises(UnknownProviderError) as raised:
        load_config()
    variable = "environment variable AGENTHOST_PROVIDERS__LOCALE__BWRAP"
    assert str(raised.value).startswith(f"{variable}: there is no provider 'locale'. Did you mean 'local'?")

"""A provider that is not set up is a notice, unless the user names it."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli.in_process import Run
from support.written import write

from agenthost import AgentRef, registry
from agenthost.registry import register_provider

LOOKING = (
    ["ps"],
    ["ps", "--json"],
    ["reap"],
    ["reap", "--json"],
    ["stop", "--all"],
    ["stop", "--all", "--dry-run"],
)
KEYLESS = '[providers.e2b]\napi_key = { env = "E2B_API_KEY" }\n'


class Careless:
    """A provider of others, which fails in its own way."""

    def __init__(self) -> None:
        raise KeyError("ACME_TOKEN")


class Greedy:
    """A provider of others that requires an option."""

    def __init__(self, *, account: str) -> None: ...


@pytest.fixture
def acme(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register two providers that nobody has set up, for one test."""
    monkeypatch.setattr(registry, "_registered", {})
    register_provider("careless", f"{__name__}:Careless")
    register_provider("greedy", f"{__name__}:Greedy")


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize("arguments", LOOKING, ids=" ".join)
def test_each_provider_that_is_not_set_up_is_named_once_and_the_command_succeeds(
    run_here: Run, arguments: list[str]
) -> None:
    done = run_here(*arguments)
    assert done.exit_code == 0
    (notice,) = [line for line in done.stderr.splitlines() if "set up" in line]
    assert notice == (
        "agenthost: not asked, because they are not set up: careless, cloudflare, daytona, e2b, fly, greedy, "
        "modal, vercel; `agenthost providers` says what is missing"
    )
    assert "e2b" not in done.stdout


@pytest.mark.parametrize("arguments", LOOKING, ids=" ".join)
def test_one_that_a_config_has_options_for_is_told_with_what_is_missing(
    run_here: Run, tmp_path: Path, arguments: list[str]
) -> None:
    path = str(write(tmp_path, KEYLESS).rename(tmp_path / "with.toml"))
    done = run_here(*arguments, "--config", path)
    assert done.exit_code == 0
    first, second, *_ = done.stderr.splitlines()
    assert first == (
        f"agenthost: provider e2b is not set up and was not asked: {path}: [providers.e2b] api_key: the "
        "environment variable E2B_API_KEY is not set: set it, or remove this key"
    )
    assert second == (
        "agenthost: not asked, because they are not set up: cloudflare, daytona, fly, modal, vercel; "
        f"`agenthost providers --config {path}` says what is missing"
    )


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize("arguments", [["ps"], ["reap"], ["stop", "--all"]], ids=" ".join)
@pytest.mark.parametrize(
    ("provider", "said"),
    [("e2b", "set E2B_API_KEY"), ("greedy", "requires the option account: set it in [providers.greedy]")],
)
def test_one_that_the_user_names_fails_with_what_to_set(
    run_here: Run, provider: str, said: str, arguments: list[str]
) -> None:
    done = run_here(*arguments, "--provider", provider)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr


def test_options_that_are_wrong_are_a_failure_and_no_notice(run_here: Run, tmp_path: Path) -> None:
    path = write(tmp_path, "[providers.e2b]\napi_kye = 1\n").rename(tmp_path / "with.toml")
    for command in ("ps", "reap"):
        done = run_here(command, "--config", str(path), env={"E2B_API_KEY": "e2b_of_the_tests"})
        assert done.exit_code == 1
        assert "provider e2b cannot be asked" in done.stderr
        assert "Did you mean 'api_key'?" in done.stderr


def test_an_agent_that_is_not_found_is_told_with_those_that_were_not_asked(run_here: Run) -> None:
    for arguments in (["logs", "agent-x"], ["stop", "agent-x"]):
        done = run_here(*arguments)
        assert done.exit_code == 1
        assert "there is no agent 'agent-x'" in done.stderr
        assert (
            "not asked, because they are not set up: cloudflare, daytona, e2b, fly, modal, vercel"
            in done.stderr
        )


@pytest.mark.parametrize("provider", ["e2b", "docker", "nowhere"])
def test_a_ref_of_a_provider_that_was_not_asked_is_never_said_to_be_gone(
    run_here: Run, provider: str
) -> None:
    ref = AgentRef(provider=provider, sandbox="1", sandbox_name="ah-1", agent="agent-1")
    done = run_here("logs", ref.to_json())
    assert (done.exit_code, "any more" in done.stderr) == (1, False)
    assert (
        f"whether sandbox ah-1 still exists is not known: provider {provider} cannot be asked" in done.stderr
    )

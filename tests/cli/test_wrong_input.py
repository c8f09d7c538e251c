"""Input that makes no sense is refused before anything is looked for, with what to do next."""

from __future__ import annotations

import pytest
from cli.in_process import Run

from agenthost.cli import doctor
from agenthost.cli.checks import Check


@pytest.mark.parametrize(
    "arguments",
    [["ps"], ["stop", "--all"], ["reap"], ["run", "hi"]],
    ids=" ".join,
)
def test_a_provider_without_a_name_is_not_every_provider(run_here: Run, arguments: list[str]) -> None:
    done = run_here(*arguments, "--provider", "")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "there is no provider ''. Known are: " in done.stderr


def test_no_image_is_made_of_a_provider_without_a_name(run_here: Run) -> None:
    done = run_here("bake", "")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "there is no provider ''" in done.stderr


@pytest.mark.parametrize("command", ["logs", "attach"])
@pytest.mark.parametrize("place", ["foo", "", "12:", "-3"])
def test_what_is_no_place_in_a_journal_is_refused_before_an_agent_is_looked_for(
    run_here: Run, command: str, place: str
) -> None:
    done = run_here(command, "agent-x", f"--after={place}")
    assert (done.exit_code, done.stdout) == (2, "")
    said = " ".join(done.stderr.replace("│", " ").split())
    assert "Invalid value for --after" in said
    assert "the number of an event, or oldest for all that is kept" in said


def test_a_lifetime_without_an_end_is_refused(run_here: Run) -> None:
    env = {"ANTHROPIC_API_KEY": "sk-ant-of-the-tests"}
    done = run_here("run", "hi", "--provider", "local-unisolated", "--lifetime", "inf", env=env)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "max_lifetime is inf; it must be finite" in done.stderr


def test_the_config_to_check_is_named_once_as_an_argument_or_as_for_the_other_commands(run_here: Run) -> None:
    named = run_here("config", "check", "--config", "none.toml")
    assert "the config none.toml cannot be read" in named.stdout
    twice = run_here("config", "check", "none.toml", "--config", "none.toml")
    assert twice.exit_code == 2
    assert "name the file once" in twice.stderr


def test_a_variable_that_is_no_setting_is_to_be_unset_and_no_other_config_is_advised(run_here: Run) -> None:
    done = run_here("ps", env={"AGENTHOST_NOPE": "1"})
    assert done.exit_code == 2
    assert done.stderr.splitlines() == [
        "agenthost: environment variable AGENTHOST_NOPE: there is no such setting: unset it",
        "nothing was done: mend this",
    ]


def test_without_an_agent_the_command_that_starts_one_stands_at_the_end_of_its_line(run_here: Run) -> None:
    first, *_ = run_here("logs", "agent-x").stderr.splitlines()
    assert first.endswith('start one: agenthost run --detach "Fix the failing test" --workspace ./app')


def test_with_nothing_to_tell_json_is_empty(run_here: Run) -> None:
    for command in ("ps", "reap"):
        done = run_here(command, "--json")
        assert (done.exit_code, done.stdout) == (0, "")


def test_the_form_of_stop_names_agents_once(run_here: Run) -> None:
    assert "Usage: agenthost stop [OPTIONS] [AGENT]..." in run_here("stop", "--help").stdout


async def test_doctor_shows_each_finding_before_the_next_check_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[str] = []

    def check_bash() -> Check:
        assert shown == ["Python", "Claude Agent SDK", "claude CLI"]
        return Check(name="bash", state="ok", detail="")

    monkeypatch.setattr("agenthost.cli.checks.check_bash", check_bash)
    found = await doctor.look(show=lambda check: shown.append(check.name))
    assert shown == [check.name for check in found]
    assert {check.name: check.detail for check in found}["bash"] == ""

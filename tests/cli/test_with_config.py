"""``bake``, ``providers`` and ``doctor`` open providers with the options that a config has for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli.in_process import Run
from support.preloaded import Done
from support.written import write

FLAGS = ("--allow", "provider-options")
COMMANDS = (["bake", "docker"], ["providers", "--json"], ["doctor", "--json"])


def text_of(engine: str) -> str:
    return f"[providers.docker]\nhost = 'unix://{engine}'\n"


def told_of_docker(command: str, done: Done) -> str:
    """Return what a command has told of the docker provider."""
    if command == "bake":
        assert (done.exit_code, done.stdout) == (1, "")
        return done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    rows = said["providers" if command == "providers" else "checks"]
    return str(next(row["remedy"] for row in rows if row["name"] == "docker"))


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_the_options_are_those_of_the_config_that_is_named_or_lies_here_or_of_variables(
    run_here: Run, tmp_path: Path, arguments: list[str]
) -> None:
    command = arguments[0]
    named = str(write(tmp_path, text_of("/named.sock")).rename(tmp_path / "named.toml"))
    ways: list[tuple[tuple[str, ...], dict[str, str]]] = [
        (("--config", named), {}),
        ((), {"AGENTHOST_CONFIG": named}),
        ((), {"AGENTHOST_PROVIDERS__DOCKER__HOST": "unix:///named.sock"}),
    ]
    for options, env in ways:
        done = run_here(*arguments, *options, env=env)
        assert "unix:///named.sock" in told_of_docker(command, done), (options, env)
        assert "agenthost: provider options from" in done.stderr
    write(tmp_path, text_of("/here.sock"))
    assert "unix:///here.sock" in told_of_docker(command, run_here(*arguments, *FLAGS))
    assert "unix:///named.sock" in told_of_docker(command, run_here(*arguments, "--config", named))


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_options_of_the_file_that_lies_here_want_the_flag(
    run_here: Run, tmp_path: Path, arguments: list[str]
) -> None:
    write(tmp_path, text_of("/here.sock"))
    done = run_here(*arguments)
    said = done.stderr if arguments[0] == "bake" else told_of_docker(arguments[0], done)
    assert "counts only when the command line says it, too: --allow provider-options" in said
    assert "here.sock" not in done.stdout + done.stderr
    assert done.exit_code == (2 if arguments[0] == "bake" else 0)


def test_doctor_tries_local_as_the_config_has_it(run_here: Run, tmp_path: Path) -> None:
    write(tmp_path, '[providers.local]\nbwrap = "/nowhere/bwrap"\n').rename(tmp_path / "with.toml")
    done = run_here("doctor", "--json", "--config", "with.toml")
    found = {row["name"]: row for row in json.loads(done.stdout)["checks"]}
    assert (done.exit_code, found["local isolation"]["state"]) == (1, "missing")
    assert "/nowhere/bwrap" in found["local isolation"]["remedy"]


def test_doctor_finds_the_key_where_the_config_says(run_here: Run, tmp_path: Path) -> None:
    text = '[agent.env]\nANTHROPIC_API_KEY = { env = "OUR_KEY" }\n'
    path = str(write(tmp_path, text).rename(tmp_path / "with.toml"))
    for value, state in (("sk-ant-of-the-tests", "ok"), ("", "optional")):
        env = {"OUR_KEY": value, "ANTHROPIC_API_KEY": "", "ANTHROPIC_AUTH_TOKEN": ""}
        done = run_here("doctor", "--json", "--config", path, env=env)
        (key,) = [row for row in json.loads(done.stdout)["checks"] if row["name"] == "Anthropic key"]
        assert (key["state"], "OUR_KEY is set" in key["detail"]) == (state, state == "ok")
        assert "of-the-tests" not in done.stdout


def test_a_provider_that_only_a_config_has_is_a_row_that_says_so(run_here: Run, tmp_path: Path) -> None:
    path = str(write(tmp_path, "[providers.lcal]\na = 1\n").rename(tmp_path / "with.toml"))
    done = run_here("providers", "--json", "--config", path)
    (row,) = [row for row in json.loads(done.stdout)["providers"] if row["name"] == "lcal"]
    assert (done.exit_code, row["kind"], row["state"]) == (0, "unknown", "not usable")
    assert "there is no provider 'lcal'. Did you mean 'local'?" in row["remedy"]

"""The command line: help, mistakes, exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import claude_agent_sdk as sdk
import pytest
from support.command_line import COMMAND, agenthost, environment

import agenthost as package
from agenthost.cli.app import tell_sdk_error


def test_help_names_every_command() -> None:
    done = agenthost("--help")
    assert done.exit_code == 0
    for command in ("demo", "run", "ps", "logs", "attach", "stop", "doctor"):
        assert f" {command} " in done.stdout
        assert agenthost(command, "-h").exit_code == 0


def test_without_arguments_it_prints_its_help() -> None:
    done = agenthost()
    assert "Usage: agenthost" in done.stdout + done.stderr


def test_the_installed_command_tells_its_version() -> None:
    done = subprocess.run([COMMAND, "--version"], capture_output=True, check=True, timeout=60)
    assert done.stdout.decode() == f"agenthost {package.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nope"], "No such command 'nope'"),
        (["run"], "Missing argument"),
        (["run", ""], "it is empty"),
        (["run", "-"], "it is empty"),
        (["run", "hi", "--max-turns", "0"], "Invalid value for '--max-turns'"),
        (["run", "hi", "--workspace", "/nonexistent/app"], "does not exist"),
        (["run", "hi", "--credentials", "env"], "it needs --network open"),
        (["run", "hi", "--network", "some"], "Invalid value for '--network'"),
        (["attach", "x", "--answer", "maybe"], "Invalid value for '--answer'"),
        (["run", "hi", "--provider", "lcal"], "there is no provider 'lcal'. Did you mean 'local'?"),
    ],
    ids=[
        *("command", "argument", "empty", "empty-stdin", "turns", "workspace", "key", "network", "answer"),
        "provider",
    ],
)
def test_what_makes_no_sense_is_said_in_a_sentence_and_exits_with_2(arguments: list[str], said: str) -> None:
    done = agenthost(*arguments)
    assert done.exit_code == 2
    assert " ".join(said.split()) in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_prompt_from_stdin_must_be_text() -> None:
    done = agenthost("run", "-", stdin=b"\xff\xfe")
    assert done.exit_code == 2
    assert "stdin is not UTF-8" in done.stderr


def test_help_loads_no_sdk() -> None:
    source = "import sys; from agenthost.cli.app import run_command_line as r; r(['--help']); "
    source += "sys.exit('claude_agent_sdk' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, check=False, timeout=60)
    assert done.returncode == 0


def test_a_command_is_imported_when_it_is_asked_for_and_not_before() -> None:
    source = "import sys; from agenthost.cli.app import run_command_line as r; r(['doctor', '--help']); "
    source += "print([name for name in ('doctor', 'run') if 'agenthost.cli.' + name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, check=True, timeout=60)
    assert done.stdout.endswith(b"\n['doctor']\n")


def test_a_command_that_there_is_not_is_told_with_what_is_like_it() -> None:
    done = agenthost("emulat")
    assert done.exit_code == 2
    assert "Did you mean 'emulate'?" in done.stderr


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            sdk.ProcessError("Command failed", exit_code=7, stderr="a warning\nno such model\n"),
            ["ProcessError", "exit code: 7", "no such model"],
        ),
        (sdk.CLINotFoundError("Claude Code not found", "/opt/claude"), ["CLINotFoundError", "/opt/claude"]),
        (sdk.CLIJSONDecodeError("{nonsense", ValueError("bad")), ["CLIJSONDecodeError", "{nonsense"]),
        (sdk.ClaudeSDKError(""), ["ClaudeSDKError"]),
    ],
    ids=["process", "not-found", "json", "empty"],
)
def test_an_error_of_the_sdk_is_one_line_that_says_what_to_do_next(error: Exception, said: list[str]) -> None:
    told = tell_sdk_error(error)
    assert all(part in told for part in [*said, "agenthost doctor"])
    assert "\n" not in told


def test_what_the_encoding_of_the_output_lacks_is_escaped(tmp_path: Path) -> None:
    (tmp_path / "agenthost.toml").write_text('[agent]\nmodel = "\N{WAVING HAND SIGN}"\n', encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "agenthost.cli", "config", "check"],
        env=environment({"PYTHONIOENCODING": "ascii"}),
        capture_output=True,
        check=False,
        timeout=120,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert rb"\U0001f44b" in done.stdout


def test_a_reader_that_goes_away_is_not_complained_about(tmp_path: Path) -> None:
    command = f"{sys.executable} -m agenthost.cli doctor --json | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command],
        env=environment(),
        capture_output=True,
        check=False,
        timeout=120,
        cwd=tmp_path,
    )
    assert done.stdout == b"{"
    assert done.stderr == b""
    assert done.returncode in (0, 1)  # it may have been done before the reader went

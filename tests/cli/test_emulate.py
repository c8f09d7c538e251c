"""``agenthost emulate``: a cloud's API on this machine, used by another process by its config alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.command_line import COMMAND, agenthost, environment

LIMIT = 120  # seconds until a test is taken to hang


@contextmanager
def emulated(*arguments: str) -> Generator[subprocess.Popen[str]]:
    """Run the command; Ctrl-C ends it, with exit code 0."""
    argv = [COMMAND, "emulate", *arguments]
    with subprocess.Popen(argv, env=environment({}), stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
            process.send_signal(signal.SIGINT)
            assert process.wait(LIMIT) == 0
        finally:
            process.kill()


@pytest.mark.parametrize("provider", ["e2b", "modal"])
def test_the_config_that_it_prints_is_one_and_leads_to_it(provider: str, tmp_path: Path) -> None:
    variables: dict[str, str] = {}
    lines: list[str] = []
    with emulated(provider) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("export "):
                name, _, value = line.removeprefix("export ").strip().partition("=")
                variables[name] = value
            lines.append(line)
            if len(lines) > 1 and line == "\n" and any("[providers" in one for one in lines):
                break
        start = next(number for number, line in enumerate(lines) if line.startswith("provider ="))
        path = tmp_path / "agenthost.toml"
        path.write_text("".join(lines[start:]))
        assert variables
        assert not any(value in path.read_text() for value in variables.values())
        checked = agenthost("config", "check", str(path), env=variables)
        assert checked.exit_code == 0, checked.stdout
        listed = agenthost("ps", "--provider", provider, "--config", str(path), env=variables)
        assert listed.exit_code == 0, listed.stderr
        assert "no agents" in listed.stdout + listed.stderr


def test_as_json_it_is_one_line_for_programs() -> None:
    with emulated("e2b", "--friendly", "--json") as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
    assert told["provider"] == "e2b"
    assert told["options"]["api_url"].startswith("http://127.0.0.1:")


def test_what_has_no_emulator_is_told_with_those_that_have() -> None:
    done = agenthost("emulate", "nowhere")
    assert done.exit_code == 2
    assert "there is no emulator of 'nowhere'. Known are: e2b, modal" in done.stderr
    assert os.sep not in done.stderr

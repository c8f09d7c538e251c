"""``agenthost check``: a config is judged before anything is made, and the exit code says how."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli.in_process import Run

PRODUCTION = (Path(__file__).parent.parent.parent / "examples" / "production.toml").read_text()
# Without what a vendor's machine does not take, because it is bounded already.
STRICT = PRODUCTION.replace('provider = "docker"', 'provider = "vercel"').replace(
    "memory_mib = 2048\ncpu = 2\npids = 512\n", ""
)


@pytest.mark.parametrize(
    ("config", "arguments", "code"),
    [
        (PRODUCTION, [], 0),
        (PRODUCTION, ["--strict"], 1),  # nothing caps the disk
        (STRICT, ["--strict"], 0),
        (PRODUCTION, ["--provider", "local-unisolated"], 1),
        (PRODUCTION.replace("dontAsk", "bypassPermissions"), [], 0),
        ("[agent]\nmax_turn = 3\n", [], 2),
    ],
)
def test_the_exit_code_is_1_for_a_failure_and_with_strict_for_a_warning(
    run_here: Run, tmp_path: Path, config: str, arguments: list[str], code: int
) -> None:
    (tmp_path / "agenthost.toml").write_text(config)
    assert run_here("check", *arguments).exit_code == code


def test_an_unsafe_config_is_told_why_and_what_to_do(run_here: Run, tmp_path: Path) -> None:
    (tmp_path / "unsafe.toml").write_text(
        'provider = "local-unisolated"\n[agent]\npermission_mode = "bypassPermissions"\n'
    )
    done = run_here("check", "unsafe.toml")
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "provider: local-unisolated"
    assert lines[1].startswith("fail  isolation")
    assert lines[2].strip() == "-> Use an isolated provider: local, docker, or a cloud"
    assert any(line.startswith("fail  permission mode    bypassPermissions where nothing") for line in lines)
    report = json.loads(run_here("check", "--config", "unsafe.toml", "--json").stdout)
    assert (report["provider"], report["ok"], report["strictly_ok"]) == ("local-unisolated", False, False)
    assert {"name", "verdict", "detail", "fix"} == report["findings"][0].keys()


def test_without_a_config_the_librarys_defaults_are_judged(run_here: Run) -> None:
    done = run_here("check", "--provider", "docker")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "warn  audit" in done.stdout
    assert run_here("check", "a.toml", "--config", "a.toml").exit_code == 2

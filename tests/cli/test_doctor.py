"""``agenthost doctor`` tells what works here, and never a secret."""

from __future__ import annotations

import json
import os
import pwd
import shutil
from pathlib import Path
from typing import Any, NoReturn

import pytest
from support.command_line import agenthost
from support.preloaded import run_to_end

from agenthost.cli import doctor
from agenthost.cli.checks import check_state
from agenthost.errors import ConfigError
from agenthost.statedir import state_directory


def checks(text: str) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in json.loads(text)["checks"]}


def test_on_a_machine_that_can_it_says_so_and_names_the_versions() -> None:
    done = agenthost("doctor", "--json", env={"ANTHROPIC_API_KEY": "sk-ant-secret"})
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    assert (done.exit_code, json.loads(done.stdout)["works"]) == (0, True)
    found = checks(done.stdout)
    assert found["Anthropic key"]["state"] == "ok"
    assert found["local isolation"]["facts"]["seccomp"] == "2"
    assert found["Claude Agent SDK"]["detail"].startswith("0.")
    assert "bundled" in found["claude CLI"]["detail"]
    assert found["state directory"]["detail"] == os.environ["AGENTHOST_STATE_DIR"]


def test_it_never_shows_a_key() -> None:
    secrets = {"ANTHROPIC_API_KEY": "sk-ant-secret-1", "ANTHROPIC_AUTH_TOKEN": "secret-2"}
    for arguments in (["doctor"], ["doctor", "--json"]):
        done = agenthost(*arguments, env=secrets)
        assert not any(value in done.stdout + done.stderr for value in secrets.values())
        assert "ANTHROPIC_API_KEY is set" in done.stdout


def test_what_is_missing_is_named_with_its_remedy_and_exits_with_1(tmp_path: Path) -> None:
    done = agenthost("doctor", env={"PATH": str(tmp_path)})
    assert done.exit_code == 1
    assert "MISSING  local isolation" in done.stdout
    assert "bubblewrap" in done.stdout
    assert "MISSING  bash" in done.stdout
    assert "Agents cannot run on this machine yet" in done.stdout


def test_a_cloud_is_enough_where_nothing_runs_on_this_machine(tmp_path: Path) -> None:
    done = agenthost("doctor", env={"PATH": str(tmp_path), "E2B_API_KEY": "e2b_0123hidden"})
    assert done.exit_code == 0
    assert "MISSING  local isolation" in done.stdout
    assert "Agents can run here, with e2b. Try: agenthost run --provider e2b" in done.stdout


def test_one_provider_is_looked_at_and_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    here = agenthost("doctor", "--provider", "local-unisolated", "--json")
    rows = checks(here.stdout)
    assert (here.exit_code, json.loads(here.stdout)["providers"]) == (0, ["local-unisolated"])
    assert rows["first run"]["detail"].startswith("costs nothing")
    monkeypatch.delenv("E2B_API_KEY", raising=False)
    without = agenthost("doctor", "--provider", "e2b")
    assert without.exit_code == 1
    assert "MISSING  credentials" in without.stdout
    assert "E2B_API_KEY" in without.stdout
    unknown = agenthost("doctor", "--provider", "e3b")
    assert (unknown.exit_code, "Did you mean 'e2b'?" in unknown.stderr) == (2, True)


def test_without_a_key_it_says_what_that_is_needed_for() -> None:
    done = agenthost("doctor")
    assert "-> export ANTHROPIC_API_KEY=..." in done.stdout


def test_a_state_directory_that_cannot_be_made_is_found(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = agenthost("doctor", "--json", env={"AGENTHOST_STATE_DIR": str(tmp_path / "file" / "state")})
    found = checks(done.stdout)["state directory"]
    assert done.exit_code == 1
    assert (found["state"], found["remedy"]) == ("missing", "set AGENTHOST_STATE_DIR to a directory of yours")


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> NoReturn:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("HOME", "AGENTHOST_STATE_DIR", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    found = check_state()
    assert (found.state, found.remedy) == ("missing", "set AGENTHOST_STATE_DIR to a directory of yours")
    with pytest.raises(ConfigError, match=r"no home directory.*AGENTHOST_STATE_DIR"):
        state_directory()


async def test_installed_clouds_have_a_row_and_their_clients_are_not_imported() -> None:
    program = (
        "import json, sys\n"
        "from agenthost.cli.app import run_command_line\n"
        "run_command_line(['doctor', '--json'])\n"
        "print(json.dumps(sorted({'daytona', 'e2b', 'modal'} & sys.modules.keys())))\n"
    )
    keys = {"E2B_API_KEY": "e2b_0123hidden", "DAYTONA_API_KEY": "dtn_0123hidden"}
    done = await run_to_end(["python", "-c", program], env=keys)
    rows, imported = done.stdout.splitlines()
    clouds = ("cloudflare", "daytona", "e2b", "modal")  # the first one needs no package
    found = {name: row["state"] for name, row in checks(rows).items() if name in clouds}
    assert found == {"cloudflare": "optional", "daytona": "ok", "e2b": "ok", "modal": "optional"}
    assert {"daytona", "e2b"} <= set(json.loads(rows)["providers"])
    assert imported == "[]"
    assert "0123hidden" not in done.stdout + done.stderr


async def test_what_cannot_be_looked_at_is_a_finding_and_hides_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> NoReturn:
        raise OSError("the disk is gone")

    monkeypatch.setattr("agenthost.cli.checks.check_bash", broken)
    found = {one.name: one for one in await doctor.look()}
    assert found["bash"].state == "missing"
    assert "OSError: the disk is gone" in found["bash"].detail
    assert found["Python"].state == "ok"

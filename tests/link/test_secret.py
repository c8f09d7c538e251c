"""The deployment secret: given, or made once and kept."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agenthost.errors import ConfigError
from agenthost.link.secret import deployment_secret


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a state directory that is not there yet."""
    monkeypatch.delenv("AGENTHOST_SECRET", raising=False)
    monkeypatch.setenv("AGENTHOST_STATE_DIR", str(tmp_path / "made" / "state"))
    return tmp_path / "made" / "state"


def test_a_secret_is_made_once_and_kept_for_its_owner_alone(state: Path) -> None:
    secret = deployment_secret()
    assert len(secret) >= 32
    assert deployment_secret() == secret
    assert [path.name for path in state.iterdir()] == ["secret"]
    assert (state / "secret").stat().st_mode & 0o7777 == 0o600
    assert state.stat().st_mode & 0o7777 == 0o700


def test_each_state_directory_has_its_own(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = deployment_secret()
    monkeypatch.setenv("AGENTHOST_STATE_DIR", str(state / "other"))
    assert deployment_secret() != first


def test_threads_and_processes_that_start_at_once_agree(state: Path) -> None:
    program = "from agenthost.link.secret import deployment_secret as d; print(d().decode())"
    processes = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(6)
    ]
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(deployment_secret().decode())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in processes:
        output, _ = process.communicate(timeout=60)
        found.append(output.strip())
    assert len(found) == 26
    assert set(found) == {(state / "secret").read_text()}
    assert [path.name for path in state.iterdir()] == ["secret"]


def test_an_argument_comes_before_the_environment_and_that_before_the_file(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTHOST_SECRET", "from the environment")
    assert deployment_secret() == b"from the environment"
    assert deployment_secret("given as a text, für uns") == "given as a text, für uns".encode()
    assert deployment_secret(b"\xff" * 16) == b"\xff" * 16
    assert not state.exists()


def test_an_empty_variable_is_none(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTHOST_SECRET", "")
    assert deployment_secret() == (state / "secret").read_bytes()


@pytest.mark.parametrize("secret", ["", "fifteen letters", b"x" * 15])
def test_a_short_secret_is_refused_and_not_shown(state: Path, secret: str | bytes) -> None:
    with pytest.raises(ConfigError, match="shorter than 16 bytes") as caught:
        deployment_secret(secret)
    assert "fifteen" not in str(caught.value)
    assert not state.exists()


def test_a_short_variable_is_refused(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTHOST_SECRET", "short")
    with pytest.raises(ConfigError, match="shorter than 16 bytes"):
        deployment_secret()
    assert not state.exists()


def test_a_kept_secret_that_was_cut_off_is_refused(state: Path) -> None:
    deployment_secret()
    (state / "secret").write_bytes(b"")
    with pytest.raises(ConfigError, match=f"{state}/secret"):
        deployment_secret()


def test_a_secret_that_cannot_be_kept_says_what_to_do(state: Path) -> None:
    state.parent.mkdir()
    state.write_text("a file where the directory should be")
    with pytest.raises(ConfigError, match="AGENTHOST_SECRET"):
        deployment_secret()

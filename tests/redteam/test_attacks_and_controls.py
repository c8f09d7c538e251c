"""Each attack has a control that shows it to work, and the page on security has the table of all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def declared() -> dict[str, Any]:
    """Return what the tests of this directory declare, as a run of all of them sees it."""
    names = ("PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT")
    env = {name: value for name, value in os.environ.items() if name not in names}
    argv = [sys.executable, str(ROOT / "scripts" / "attack_table.py"), "--json"]
    done = subprocess.run(argv, env=env, cwd=ROOT, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_each_mechanism_of_an_attack_has_a_control_in_the_same_words(declared: dict[str, Any]) -> None:
    mechanisms = {attack["mechanism"] for attack in declared["attacks"]}
    assert mechanisms
    assert mechanisms == set(declared["controls"])


def test_the_page_on_security_has_the_table_that_the_script_makes(declared: dict[str, Any]) -> None:
    assert declared["current"], "run scripts/attack_table.py"

"""A guest that is root acts as the agent, and as itself again."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, subprocess
from agenthost.guest.agent_user import as_agent, is_separate, separate

def ids():
    return os.geteuid(), os.getegid()

with as_agent() as uid:
    print(uid, is_separate(), ids())
separate(54321)
seen = [ids()]
with as_agent() as uid:
    seen.append(ids())
    with as_agent():
        seen.append(ids())
    seen.append(ids())
try:
    with as_agent():
        raise OSError
except OSError:
    seen.append(ids())
with as_agent() as uid:
    command = ["sh", "-c", "grep CapBnd /proc/self/status; id -u; id -G"]
    done = subprocess.run(command, user=uid, group=uid, capture_output=True, text=True)
print(is_separate(), seen, done.stdout.split())
"""


@pytest.mark.skipif(os.getuid() != 0, reason="not in CI: only root can act as another user")
def test_what_is_done_for_the_agent_has_its_ids_also_in_a_block_within_a_block() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    root, agent = (0, 0), (54321, 54321)
    assert done.stdout.splitlines() == [
        f"None False {root}",
        f"True {[root, agent, agent, agent, root]} {['CapBnd:', '0' * 16, '54321', '54321']}",
    ]

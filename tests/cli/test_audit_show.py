"""``agenthost audit show``: the log of an agent that may be gone, as a table or as it is."""

from __future__ import annotations

import json
import os
from pathlib import Path

from cli.in_process import Run
from support.audit_logs import logs_are_removed

from agenthost.agent.audit.digests import Masker
from agenthost.agent.audit.log import AuditLog

__all__ = ["logs_are_removed"]

CALL: dict[str, object] = {
    "event": "tool_call",
    "tool": "Bash\x1b[2J",
    "input": {"sha256": "ab" * 32, "bytes": 9},
    "seq": 4,
    "at": 9,
}
DECISION: dict[str, object] = {"event": "decision", "tool": "Bash", "decision": "deny", "by": "callback"}


def write(agent: str, *records: dict[str, object], when: int = 0) -> Path:
    """Write a log where this user's are."""
    path = Path(os.environ["AGENTHOST_STATE_DIR"], "audit", f"{agent}.jsonl")
    log = AuditLog(path, agent, masker=Masker([]))
    log.append(records)
    log.close()
    os.utime(path, (when, when))
    return path


def test_the_table_has_a_row_for_each_record_and_nothing_that_moves_the_cursor(run_here: Run) -> None:
    write("agent-a1", CALL, DECISION)
    done = run_here("audit", "show", "agent-a1")
    heads, call, decision = done.stdout.splitlines()
    assert heads.split() == ["N", "TIME", "EVENT", "TOOL", "WHAT"]
    assert call.split()[2:] == ["tool_call", "Bash\\x1b[2J", "input=abababababab"]
    assert decision.split()[2:] == ["decision", "Bash", "decision=deny", "by=callback"]


def test_json_is_the_records_as_they_are(run_here: Run) -> None:
    path = write("agent-a1", CALL, DECISION)
    done = run_here("audit", "show", "agent-a1", "--json")
    assert done.stdout == path.read_text()
    assert [json.loads(line)["n"] for line in done.stdout.splitlines()] == [1, 2]
    assert run_here("audit", "show", str(path), "--json").stdout == done.stdout


def test_a_beginning_names_a_log_and_without_a_name_it_is_the_newest(run_here: Run) -> None:
    write("agent-a1", DECISION, when=20)
    write("agent-b2", CALL, when=10)
    assert "tool_call" in run_here("audit", "show", "agent-b").stdout
    assert "decision" in run_here("audit", "show").stdout
    both, neither = run_here("audit", "show", "agent-"), run_here("audit", "show", "agent-c")
    assert (both.exit_code, neither.exit_code) == (2, 1)
    assert "more than one agent's name: agent-a1, agent-b2" in both.stderr
    assert "no audit log of an agent 'agent-c'" in neither.stderr


def test_where_there_is_no_log_it_says_how_to_have_one(run_here: Run) -> None:
    done = run_here("audit", "show")
    assert done.exit_code == 1
    assert 'HostedAgent(audit="digest")' in done.stderr

"""The audit log: every tool call and decision once, in sequence, whatever befalls the host, and no secret."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from agent.turns import turn
from claude_agent_sdk import (
    HookMatcher,
    PermissionResultAllow,
    PermissionResultDeny,
    create_sdk_mcp_server,
    tool,
)
from support.audit_logs import is_numbered, log_of, logs_are_removed, some
from support.hosting import allow
from support.preloaded import run_preloaded

from agenthost import Audit, HostedAgent
from agenthost.agent.audit import AuditTrail, digest_of, find_log, read_log
from agenthost.agent.audit import log as audit_log
from agenthost.agent.audit.digests import LONGEST_TEXT, Masker, described
from agenthost.agent.audit.log import AuditLog
from agenthost.errors import AgentError, ConfigError, SupersededError
from agenthost.testing import FakeCLI, Text, ToolUse

__all__ = ["logs_are_removed"]

LIMIT = 60
PLAIN = "local-unisolated"

HOST = """
import sys, anyio
from agenthost import HostedAgent

async def never(*_):
    print("asked", flush=True)
    await anyio.sleep_forever()

async def main():
    options = {"cli_path": sys.argv[1], "can_use_tool": never}
    async with HostedAgent(options, provider="local-unisolated", audit="digest") as agent:
        print(agent.ref.to_json(), flush=True)
        await agent.query("go")
        async for message in agent.receive_messages():
            pass

anyio.run(main)
"""


def made(record: dict[str, Any]) -> tuple[str, str, str]:
    return record["tool"], record["decision"], record["by"]


async def decide(tool: str, *_: object) -> PermissionResultAllow | PermissionResultDeny:
    return PermissionResultAllow() if tool == "Bash" else PermissionResultDeny(message="not that")


async def hook(given: Any, *_: object) -> Any:
    if given["tool_name"] != "Read":
        return {}
    return {"hookSpecificOutput": {"hookEventName": "PreToolUse", "permissionDecision": "allow"}}


async def test_each_tool_call_is_logged_with_its_decision_and_who_made_it(tmp_path: Path) -> None:
    calls = [
        FakeCLI.tool("Bash", {"command": "ls"}, ask=True, result="a.py"),
        FakeCLI.tool("Write", {"file_path": "x"}, ask=True),
        FakeCLI.tool("Read", {"file_path": "x"}),
        FakeCLI.tool("Glob"),
        FakeCLI.tool("Edit"),
        FakeCLI.tool("WebFetch", is_error=True),
    ]
    denials: list[dict[str, Any]] = [{"tool_name": "WebFetch", "tool_use_id": "toolu_13", "tool_input": {}}]
    cli = FakeCLI([*calls, FakeCLI.result(permission_denials=denials)]).write(tmp_path / "claude")
    options = {
        "cli_path": cli,
        "can_use_tool": decide,
        "hooks": {"PreToolUse": [HookMatcher(hooks=[hook])]},
        "permission_mode": "acceptEdits",
        "allowed_tools": ["Glob"],
        "disallowed_tools": ["WebFetch"],
    }
    async with HostedAgent(options, provider=PLAIN, audit="digest") as agent:
        name = agent.ref.agent
        messages = await turn(agent, "go")
        await agent.set_permission_mode("plan")
    records = log_of(name)
    assert is_numbered(records)
    assert [one["event"] for one in (records[0], records[-1])] == ["created", "ended"]
    used = [
        block for message in messages for block in getattr(message, "content", []) if hasattr(block, "input")
    ]
    assert [block.id for block in used][-1] == "toolu_13"
    logged = some(records, "tool_call")
    assert [(one["tool"], one["input"]["sha256"]) for one in logged] == [
        (block.name, digest_of(block.input)) for block in used
    ]
    results = {one["tool"]: one for one in some(records, "tool_result")}
    assert results["Bash"]["result"] == {"sha256": digest_of("a.py"), "bytes": len('"a.py"')}
    assert [made(one) for one in some(records, "decision") if one["decision"] != "none"] == [
        ("Bash", "allow", "callback"),
        ("Write", "deny", "callback"),
        ("Read", "allow", "hook"),
        ("Glob", "allow", "rule"),
        ("Edit", "allow", "mode"),
        ("WebFetch", "deny", "rule"),
    ]
    (setting,) = some(records, "setting")
    assert (setting["call"], setting["mode"]) == ("set_permission_mode", "plan")


async def test_a_tool_of_this_process_is_logged_when_it_is_asked_for_and_when_it_has_run(
    tmp_path: Path,
) -> None:
    @tool("stock", "How many there are", {"part": str})
    async def stock(given: dict[str, Any]) -> dict[str, Any]:
        assert given == {"part": "bolts", "$type": "$$"}  # logging it has not used it up
        return {"content": [{"type": "text", "text": "7"}]}

    cli = FakeCLI([FakeCLI.tool("mcp__shop__stock", {"part": "bolts", "$type": "$$"})]).write(
        tmp_path / "claude"
    )
    servers = {"shop": create_sdk_mcp_server("shop", tools=[stock])}
    options = {"cli_path": cli, "mcp_servers": servers, "allowed_tools": ["mcp__shop__stock"]}
    async with HostedAgent(options, provider=PLAIN, audit="digest") as agent:
        name = agent.ref.agent
        await turn(agent, "go")
    asked, ran = some(log_of(name), "host_tool_call", "host_tool_result")
    assert asked["tool"] == ran["tool"] == "mcp__shop__stock"
    assert asked["input"]["sha256"] == digest_of({"part": "bolts", "$type": "$$"})
    assert (asked["question"], ran["is_error"]) == (ran["question"], False)
    (decided,) = (one for one in some(log_of(name), "decision") if "question" in one)
    assert (decided["question"], decided["decision"]) == (asked["question"], "allow")


async def test_a_host_tool_that_was_refused_or_failed_is_logged_as_an_error(tmp_path: Path) -> None:
    @tool("fail", "Fails.", {})
    async def fail(_given: Any) -> Any:
        raise ValueError("no")

    calls = [FakeCLI.tool(f"mcp__shop__{name}", {}) for name in ("refused", "fail")]
    servers = {"shop": create_sdk_mcp_server("shop", tools=[fail])}
    options = {
        "cli_path": FakeCLI(calls).write(tmp_path / "claude"),
        "mcp_servers": servers,
        "disallowed_tools": ["mcp__shop__refused"],
        "allowed_tools": ["mcp__shop__fail"],
    }
    async with HostedAgent(options, provider=PLAIN, audit="digest") as agent:
        name = agent.ref.agent
        await turn(agent, "go")
    asked, answered = some(log_of(name), "host_tool_call"), some(log_of(name), "host_tool_result")
    assert [one["is_error"] for one in answered] == [True, True]
    decided = {
        one["question"]: one["decision"] for one in some(log_of(name), "decision") if "question" in one
    }
    assert [decided[one["question"]] for one in asked] == ["deny", "allow"]


async def test_files_that_changed_are_logged_by_their_digests_after_each_turn(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "old.txt").write_bytes(b"old")
    cli = FakeCLI().write(tmp_path / "claude")
    agent = HostedAgent({"cli_path": cli}, provider=PLAIN, workspace=tmp_path / "work", audit="digest")
    async with agent:
        name = agent.ref.agent
        await agent.sandbox.write_file("old.txt", b"new")
        await agent.sandbox.write_file("sub/link", b"")
        await agent.sandbox.exec(["ln", "-s", "/etc/passwd", "leads-away"])
        await turn(agent, "go")
    first, *others = some(log_of(name), "files")
    assert first["added"] == {"old.txt": f"file:{sha256(b'old')}"}
    assert {key: one for other in others for key, one in other["changed"].items()} == {
        "old.txt": f"file:{sha256(b'new')}"
    }
    added = {key: one for other in others for key, one in other["added"].items()}
    assert added == {"leads-away": f"link:{sha256(b'/etc/passwd')}", "sub/link": f"file:{sha256(b'')}"}


def sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


async def test_the_file_is_its_users_alone_and_nothing_is_written_where_it_is_off(tmp_path: Path) -> None:
    cli = FakeCLI().write(tmp_path / "claude")
    names: list[str] = []
    for audit in (None, Audit(directory=tmp_path / "logs")):
        async with HostedAgent({"cli_path": cli}, provider=PLAIN, audit=audit) as agent:
            names.append(agent.ref.agent)
    path = tmp_path / "logs" / f"{names[1]}.jsonl"
    assert [find_log(name) for name in names] == [None, path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "logs").stat().st_mode) == 0o700


@pytest.mark.parametrize("level", ["full", pytest.param("digest", marks=pytest.mark.full)])
async def test_no_secret_is_in_it(tmp_path: Path, level: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    key, token, other = "sk-ant-api03-" + "k" * 40, 'to"ken-of-the-test', "ghp_" + "a1" * 18
    monkeypatch.setenv("ANTHROPIC_API_KEY", key)
    steps = [
        FakeCLI.tool("Bash", {"command": f"echo {key}"}, result=f"{key} {token} {other}"),
        FakeCLI.tool(f"Tool-{token}", {token: other}, ask=True),
    ]
    options = {"cli_path": FakeCLI(steps).write(tmp_path / "claude"), "env": {"GITHUB_TOKEN": token}}

    async def refuse(*_: object) -> PermissionResultDeny:
        return PermissionResultDeny(message=f"not with {key}")

    async with HostedAgent({**options, "can_use_tool": refuse}, provider=PLAIN, audit=level) as agent:
        name = agent.ref.agent
        await turn(agent, "go")
        await agent.sandbox.write_file(f"file-{other}", b"")
    path = find_log(name)
    assert path is not None
    text = path.read_text()
    for secret in (key, token, json.dumps(token)[1:-1], json.dumps(json.dumps(token))[3:-3], other):
        assert secret not in text
    assert ("echo [secret]" in text) == (level == "full")


@pytest.mark.parametrize("asked_at", [9, pytest.param(0, marks=pytest.mark.full)])
async def test_the_log_of_a_killed_host_is_continued_by_the_next_one_without_gap_or_repetition(
    tmp_path: Path, asked_at: int
) -> None:
    """The ref says that nothing was read yet, so that all of the journal is read again."""
    count = 20
    calls = [FakeCLI.tool("Bash", {"command": str(n)}, ask=n == asked_at) for n in range(count)]
    with anyio.fail_after(LIMIT):
        argv = ["python", "-c", HOST, FakeCLI(calls).write(tmp_path / "claude")]
        async with run_preloaded(argv, env=os.environ, stderr=None) as host:
            ref = await host.line()
            assert await host.line() == "asked"
            host.kill()
            await host.wait()
        async with HostedAgent.attach(ref, options={"can_use_tool": allow}) as heir:
            name = heir.ref.agent
            async for _ in heir.receive_response():
                pass
    records = log_of(name)
    assert is_numbered(records)
    wanted = [digest_of({"command": str(number)}) for number in range(count)]
    assert [one["input"]["sha256"] for one in some(records, "tool_call")] == wanted
    assert len(some(records, "tool_result")) == count
    asked, *others = [made(one) for one in some(records, "decision")]
    assert asked == ("Bash", "allow", "callback")
    assert others == [("Bash", "allow", "rule or mode")] * (count - 1)
    assert [one.get("again") for one in some(records, "question")] == [None, True]
    lives = [one["event"] for one in some(records, "created", "attached", "gap", "turn", "ended")]
    assert lives == ["created", "attached", "turn", "ended"]
    places = [record["at"] for record in records if "at" in record]
    assert places == sorted(places)


async def test_a_driver_that_did_not_log_leaves_a_gap_that_the_next_one_names(tmp_path: Path) -> None:
    cli = FakeCLI().write(tmp_path / "claude")
    async with HostedAgent({"cli_path": cli}, provider=PLAIN, audit="digest") as first:
        await turn(first, FakeCLI.prompt(FakeCLI.tool("Bash")))
        ref = await first.detach()
    async with HostedAgent.attach(ref, audit="off") as second:
        await turn(second, FakeCLI.prompt(FakeCLI.tool("Read")))
        ref = await second.detach()
    async with HostedAgent.attach(ref) as third:
        await turn(third, FakeCLI.prompt(FakeCLI.tool("Glob")))
    records = log_of(ref.agent)
    assert is_numbered(records)
    assert [one["tool"] for one in some(records, "tool_call")] == ["Bash", "Glob"]
    (gap,) = some(records, "gap")
    assert gap["to"] == ref.cursor.offset
    lives = [one["event"] for one in some(records, "created", "detached", "attached", "gap", "ended")]
    assert lives == ["created", "detached", "attached", "gap", "ended"]


async def test_a_superseded_host_says_so_and_an_observer_says_nothing(tmp_path: Path) -> None:
    cli = FakeCLI().write(tmp_path / "claude")
    async with HostedAgent({"cli_path": cli}, provider=PLAIN, audit="digest") as first:
        ref = first.ref
        async with HostedAgent.attach(ref, role="observer", audit="digest"):
            pass
        async with HostedAgent.attach(ref) as second:
            with pytest.raises(SupersededError):
                await turn(first, "go")
            await first.disconnect()
            await turn(second, FakeCLI.prompt(FakeCLI.tool("Bash")))
    records = log_of(ref.agent)
    assert is_numbered(records)
    told = [record["event"] for record in records if record["event"] not in ("files", "turn")]
    assert told == ["created", "attached", "superseded", "tool_call", "tool_result", "decision", "ended"]


async def test_a_decision_that_waited_too_long_is_logged_as_that(tmp_path: Path) -> None:
    """By the host that comes then: no host was there."""
    trail, path = AuditTrail(), tmp_path / "a.jsonl"
    log = AuditLog(path, "a", masker=Masker([]), restore=trail.restore)
    trail.begin(log, full=False, whole=True)
    question = {"id": 4, "what": "can_use_tool", "tool_name": "Bash", "context": {"tool_use_id": "t"}}
    trail.event({"seq": 1, "kind": "request", **question}, 100, 99)
    trail.close()
    heir = AuditTrail()
    log = AuditLog(path, "a", masker=Masker([]), restore=heir.restore)
    heir.begin(log, full=False, whole=True)
    heir.event({"seq": 1, "kind": "request", **question}, 100, 99)  # read again
    heir.event({"seq": 2, "kind": "answered", "id": 4}, 200, 99)
    heir.close()
    asked, decided = read_log(path)
    assert (asked["event"], made(decided)) == ("question", ("Bash", "deny", "decision_wait"))


async def test_what_other_parts_of_the_host_decide_and_refuse_has_a_place(tmp_path: Path) -> None:
    trail = AuditTrail()
    trail.on_refusal("egress", "nothing is logged yet, and nothing fails")
    log = AuditLog(tmp_path / "a.jsonl", "a", masker=Masker(["a-known-secret"]), restore=trail.restore)
    trail.begin(log, full=False, whole=True)
    trail.on_refusal("model", "claude-dear is not allowed, a-known-secret")
    trail.on_decision(
        "refused", "mcp__shop__stock", reason="nothing approved it", input={"part": "bolts"}, turn=3
    )
    trail.close()
    refusal, decision = read_log(tmp_path / "a.jsonl")
    assert (refusal["event"], refusal["kind"]) == ("refusal", "model")
    assert refusal["detail"] == "claude-dear is not allowed, [secret]"
    assert made(decision) == ("mcp__shop__stock", "deny", "host")
    assert (decision["reason"], decision["turn"]) == ("nothing approved it", 3)
    assert decision["input"]["sha256"] == digest_of({"part": "bolts"})


@pytest.mark.parametrize("before", [0, 1, 5, 20])
def test_a_secret_at_the_place_where_a_text_is_cut_is_not_shown_in_part(before: int) -> None:
    secret = "a-known-secret-of-some-length"
    text = "x " * (LONGEST_TEXT // 2)
    given = text[: LONGEST_TEXT - before - 1] + " " + secret + text
    shown = Masker([secret]).text(described(given, full=True)["text"])
    assert secret[:4] not in shown
    assert len(shown) > LONGEST_TEXT - 100


def test_the_whole_of_a_private_key_is_masked() -> None:
    lines = "\n".join("MIIEvQIBADANBgkqhkiG9w0BAQEFAASC" for _ in range(20))
    key = f"-----BEGIN RSA PRIVATE KEY-----\n{lines}\n-----END RSA PRIVATE KEY-----"
    assert Masker([]).text(f'{{"content": "{key}"}}') == '{"content": "[secret]"}'


BATCH = [{"event": "tool_call", "at": 20, "part": part, "parts": 3} for part in (1, 2, 3)]


def cut_a_record(data: bytes) -> bytes:
    return data[:-20]


def cut_between_records(data: bytes) -> bytes:
    return data[: data.rindex(b"\n", 0, -1) + 1]


@pytest.mark.parametrize("harm", [cut_a_record, cut_between_records])
def test_what_a_crash_left_of_an_event_is_written_again_whole(
    tmp_path: Path, harm: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "a.jsonl"
    log = AuditLog(path, "a", masker=Masker([]))
    log.append([{"event": "tool_call", "at": 10}])
    log.append(BATCH)
    log.close()
    whole = path.read_bytes()
    path.write_bytes(harm(whole))
    again = AuditLog(path, "a", masker=Masker([]))
    assert again.last == 10
    again.append([{"event": "tool_call", "at": 10}])
    again.append(BATCH)
    again.close()
    records = list(read_log(path))
    assert is_numbered(records)
    assert [(one["at"], one.get("part")) for one in records] == [(10, None), (20, 1), (20, 2), (20, 3)]


def test_a_log_that_was_changed_is_not_cut_off_but_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    log = AuditLog(path, "a", masker=Masker([]))
    log.append([{"event": "one"}, {"event": "two"}])
    log.close()
    first, second = path.read_bytes().splitlines(keepends=True)
    changed = first.replace(b"{", b"", 1) + second
    path.write_bytes(changed)
    with pytest.raises(AgentError, match="is not an audit log, or was changed"):
        AuditLog(path, "a", masker=Masker([]))
    assert path.read_bytes() == changed


def test_two_hosts_that_write_at_once_number_their_records_together(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    one, other = (AuditLog(path, "a", masker=Masker([])) for _ in range(2))
    for place in range(1, 6):
        for log in (one, other):
            log.append([{"event": "tool_call", "at": place}])
            log.append([{"event": "decision"}])
    for log in (one, other):
        log.close()
    records = list(read_log(path))
    assert is_numbered(records)
    assert [record["at"] for record in records if "at" in record] == [1, 2, 3, 4, 5]
    assert len(some(records, "decision")) == 10


async def test_a_log_that_cannot_be_written_keeps_the_agent_from_beginning(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    cli = FakeCLI().write(tmp_path / "claude")
    agent = HostedAgent({"cli_path": cli}, provider=PLAIN, audit=Audit(directory=tmp_path / "file"))
    with pytest.raises(AgentError, match="cannot be written"):
        await agent.connect()


def test_a_level_that_does_not_exist_is_refused_where_it_is_given() -> None:
    with pytest.raises(ConfigError, match="known are 'off', 'digest' and 'full'"):
        HostedAgent(audit="all")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="it must be a level or an Audit"):
        HostedAgent(audit=True)  # type: ignore[arg-type]


async def test_what_the_real_cli_decides_by_itself_is_logged_with_the_rule_or_the_mode(script: Any) -> None:
    steps = [
        ToolUse("Bash", {"command": "touch made"}),
        ToolUse("Write", {"file_path": "/workspace/x", "content": "x"}),
        ToolUse("Glob", {"pattern": "*"}),
        Text("Done."),
    ]
    options = {"permission_mode": "dontAsk", "allowed_tools": ["Bash"], "cwd": "/workspace"}
    async with script(*steps), HostedAgent(options, provider="local", audit="digest") as agent:
        name = agent.ref.agent
        await turn(agent, "go")
    records = log_of(name)
    decisions = {one["tool"]: made(one)[1:] for one in some(records, "decision")}
    assert decisions["Bash"] == ("allow", "rule")
    assert decisions["Write"] == ("deny", "mode")
    (ended,) = [one for one in some(records, "files") if one["added"]]
    assert list(ended["added"]) == ["made"]


async def test_where_the_log_is_full_no_answer_is_given_and_the_agent_ends_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [FakeCLI.tool("Bash", ask=True)]
    options = {"cli_path": FakeCLI(steps).write(tmp_path / "claude"), "can_use_tool": allow}
    async with HostedAgent(options, provider=PLAIN, audit="digest") as agent:
        name = agent.ref.agent
        monkeypatch.setattr(audit_log, "LARGEST", 1)
        with pytest.raises(AgentError, match="its limit: move the file away"):
            await turn(agent, "go")
    assert some(log_of(name), "decision") == []

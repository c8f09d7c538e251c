"""An agent tries to keep its calls out of the audit log, to forge it, and to harm the host by it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from cli.in_process import run_here
from support.audit_logs import logs_are_removed
from support.preloaded import Done

from agenthost.agent.audit import AuditTrail, digests, log, settings
from agenthost.agent.audit.digests import Masker
from agenthost.agent.audit.log import AuditLog, read_log
from agenthost.agent.audit.workdir import WorkdirWatch
from agenthost.agent.journal import Journal
from agenthost.cli import tables
from agenthost.errors import AgentError, ConfigError
from agenthost.files import digests as listing
from agenthost.sandbox import ExecResult

__all__ = ["logs_are_removed", "run_here"]

attack, control = pytest.mark.attack, pytest.mark.control

HIDE, FORGE, FILL = "hide a call from the audit log", "forge the audit log", "fill the host by its audit log"
READ, LEAVE, SCREEN = (
    "find a secret in the audit log",
    "write elsewhere on the host",
    "control a reader's terminal",
)

OLD_NUMBER = "an event with the number of one that was logged"
ORDER = "an event whose keys are in another order"
NO_MESSAGE = "a call of a host's tool that no message of the model tells of"
ESCAPE = "a message whose class is written with an escape"
NEXT_LINE = "a tool's name that holds a line break and a record"
LONG = "a tool's input of 20 MB"
ENDLESS = "tool calls without end"
FILES = "a list of 100,000 files, others each time"
PRINTED = "a tool that prints the host's secrets"
ESCAPED = "a secret that is escaped in a text of JSON"
NAME = "a name of an agent that is a path"
TERMINAL = "a tool's name with control characters"

SECRET = 'of"the-host'
CALL = {"method": "tools/call", "params": {"name": "stock", "arguments": {"part": "bolts"}}}


def use(name: str = "Bash", given: object = None, kind: str = "ToolUseBlock") -> dict[str, Any]:
    """Return a message that uses a tool."""
    block: dict[str, Any] = {
        "$type": kind,
        "id": "toolu_1",
        "name": name,
        "input": {} if given is None else given,
    }
    return {"kind": "message", "message": {"$type": "AssistantMessage", "content": [block]}}


def line(event: Mapping[str, Any], seq: int) -> bytes:
    """Return an event as a line of the journal."""
    return json.dumps({"seq": seq, "ts": 1.5, **event}, separators=(",", ":")).encode() + b"\n"


def ignored(*_: object) -> None:
    """Do nothing: in place of a defence."""


def unchanged(value: Any, *_: object) -> Any:
    """Return what was given: in place of a defence."""
    return value


class Source:
    """A channel that has some bytes, and then ends."""

    def __init__(self, data: bytes) -> None:
        self._left = data
        self.received = 0

    async def receive(self) -> bytes:
        data, self._left = self._left, b""
        self.received += len(data)
        return data

    def ack(self, offset: int) -> None:
        """Want no more of it."""

    async def wait(self) -> int:
        return 0

    def stderr_tail(self) -> bytes:
        return b""


async def logged(path: Path, *lines: bytes, full: bool = False) -> list[dict[str, Any]]:
    """Return what the host logs of a journal that an attacker has written."""
    trail = AuditTrail()
    trail.begin(AuditLog(path, "a", masker=Masker([SECRET]), restore=trail.restore), full=full, whole=True)
    journal = Journal(Source(b"".join(lines)), stderr=None, audit=trail)
    journal.drain()
    with anyio.fail_after(10):
        await journal.run()
    trail.close()
    return list(read_log(path))


def size_of(path: Path) -> int:
    """Return the size of a log."""
    return path.stat().st_size


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the log is written."""
    return tmp_path / "a.jsonl"


# ---- hiding


async def call_with_an_old_number(path: Path) -> bool:
    records = await logged(path, line(use("Read"), 1), line(use("Glob"), 2), line(use("Bash"), 1))
    return "Bash" not in [record.get("tool") for record in records]


@attack(HIDE, OLD_NUMBER)
async def test_an_event_is_known_by_its_place_and_not_by_its_number(path: Path) -> None:
    assert not await call_with_an_old_number(path)


@control(OLD_NUMBER)
async def test_by_its_number_a_call_is_hidden(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = AuditTrail.message

    def by_number(self: AuditTrail, text: bytes, at: int) -> None:
        del at
        message(self, text, json.loads(text)["seq"])

    monkeypatch.setattr(AuditTrail, "message", by_number)
    assert await call_with_an_old_number(path)


async def question_in_another_order(path: Path) -> bool:
    event = {"id": 1, "what": "mcp", "server": "shop", "message": CALL, "kind": "request"}
    return await logged(path, line(event, 1)) == []


@attack(HIDE, ORDER)
async def test_the_log_reads_an_event_as_the_host_does_that_acts_on_it(path: Path) -> None:
    assert not await question_in_another_order(path)


@control(ORDER)
async def test_read_by_its_beginning_a_question_is_hidden(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = AuditTrail.event

    def by_its_beginning(self: AuditTrail, given: Mapping[str, Any], at: int, size: int) -> None:
        if list(given)[2] == "kind":
            event(self, given, at, size)

    monkeypatch.setattr(AuditTrail, "event", by_its_beginning)
    assert await question_in_another_order(path)


async def tool_without_a_message(path: Path) -> bool:
    event = {"kind": "request", "id": 1, "what": "mcp", "server": "shop", "message": CALL}
    return await logged(path, line(event, 1)) == []


@attack(HIDE, NO_MESSAGE)
async def test_a_call_of_a_hosts_tool_is_logged_where_the_host_is_asked(path: Path) -> None:
    assert not await tool_without_a_message(path)


@control(NO_MESSAGE)
async def test_a_log_of_messages_alone_lacks_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AuditTrail, "event", ignored)
    assert await tool_without_a_message(path)


async def class_with_an_escape(path: Path) -> bool:
    escaped = line(use("Bash"), 1).replace(b'"ToolUse', rb'"\u0054oolUse')
    return await logged(path, escaped) == []


@attack(HIDE, ESCAPE)
async def test_a_class_is_recognised_however_it_is_written(path: Path) -> None:
    assert not await class_with_an_escape(path)


@control(ESCAPE)
async def test_looked_for_as_text_it_is_hidden(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import re

    from agenthost.agent.audit import trail

    monkeypatch.setattr(trail, "_LOGGED", re.compile(b"ToolUseBlock"))
    assert await class_with_an_escape(path)


# ---- forging


async def record_in_a_name(path: Path) -> bool:
    forged = 'Bash"}\n{"n":2,"event":"decision","tool":"Bash","decision":"allow","by":"callback","x":"'
    return "decision" in [record["event"] for record in await logged(path, line(use(forged), 1))]


@attack(FORGE, NEXT_LINE)
async def test_no_text_from_inside_ends_a_record(path: Path) -> None:
    assert not await record_in_a_name(path)


@control(NEXT_LINE)
async def test_put_in_as_they_are_texts_are_records(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(record: Mapping[str, Any]) -> bytes:
        tool = record["tool"]
        return f'{{"n":{record["n"]},"event":"{record["event"]}","tool":"{tool}"}}\n'.encode()

    monkeypatch.setattr(log, "encode", encode)
    assert await record_in_a_name(path)


# ---- filling


async def long_input(path: Path) -> bool:
    await logged(path, line(use("Write", {"content": "x" * 20_000_000}), 1), full=True)
    return size_of(path) > 1_000_000


@attack(FILL, LONG)
async def test_a_record_holds_the_beginning_of_a_long_text(path: Path) -> None:
    assert not await long_input(path)


@control(LONG)
async def test_whole_a_text_is_as_long_as_the_agent_wants(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "LONGEST_TEXT", 1 << 40)
    assert await long_input(path)


def calls_without_end(path: Path) -> bool:
    """A smaller log stands in for one of a gigabyte."""
    opened = AuditLog(path, "a", masker=Masker([]))
    try:
        for number in range(1, 200):
            opened.append([{"event": "tool_call", "tool": "x" * 500, "at": number}])
    except AgentError:
        return path.stat().st_size > 30_000
    finally:
        opened.close()
    return True


@attack(FILL, ENDLESS)
def test_a_log_that_is_full_ends_its_agent(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "LARGEST", 30_000)
    assert not calls_without_end(path)


@control(ENDLESS)
def test_without_a_limit_it_grows_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "LARGEST", 1 << 60)
    assert calls_without_end(path)


class Liar:
    """A sandbox that answers with more files than there may be, and other ones each time."""

    name, workdir, layout = "liar", "/workspace", None
    times = 0

    async def exec(self, *_: object, **__: object) -> ExecResult:
        self.times += 1
        files = {f"f{self.times}-{number}": "file:0" for number in range(100_000)}
        return ExecResult(
            exit_code=0, stdout=json.dumps({"files": files, "complete": True}).encode(), stderr=b""
        )


async def many_files(path: Path) -> bool:
    trail = AuditTrail()
    trail.begin(AuditLog(path, "a", masker=Masker([]), restore=trail.restore), full=False, whole=True)
    watch = WorkdirWatch(trail, Liar())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for _ in range(3):
        await watch.finish()
    trail.close()
    return len(trail.files) > 10_000 or size_of(path) > 5_000_000


@attack(FILL, FILES)
async def test_a_list_of_files_is_cut_on_the_host(path: Path) -> None:
    assert not await many_files(path)


@control(FILES)
async def test_believed_it_is_as_long_as_the_sandbox_says(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MOST_FILES", 1 << 40)
    assert await many_files(path)


# ---- secrets


async def printed_secret(path: Path, text: str) -> bool:
    records = await logged(path, line(use("Bash", {"command": text}), 1), line(use(text), 2), full=True)
    written = json.dumps(records)
    plain = json.dumps(SECRET)[1:-1]
    return any(form in written for form in (SECRET, plain, json.dumps(plain)[1:-1]))


@attack(READ, PRINTED)
async def test_a_known_secret_is_masked_in_every_record(path: Path) -> None:
    assert not await printed_secret(path, f"echo {SECRET}")


@attack(READ, ESCAPED)
async def test_an_escaped_secret_is_masked_too(path: Path) -> None:
    assert not await printed_secret(path, json.dumps({"token": SECRET}))


@control(PRINTED)
@control(ESCAPED)
@pytest.mark.parametrize("text", [f"echo {SECRET}", json.dumps({"token": SECRET})])
async def test_unmasked_a_secret_is_there(path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Masker, "value", staticmethod(unchanged))
    assert await printed_secret(path, text)


# ---- elsewhere


def name_that_leads_away(tmp_path: Path) -> bool:
    try:
        path = settings.log_path("../../elsewhere", tmp_path / "state" / "audit")
    except ConfigError:
        return False
    AuditLog(path, "x", masker=Masker([])).close()
    return Path(os.path.normpath(path)) == tmp_path / "elsewhere.jsonl"


@attack(LEAVE, NAME)
def test_a_name_is_one_part_of_a_path(tmp_path: Path) -> None:
    assert not name_that_leads_away(tmp_path)


@control(NAME)
def test_a_name_that_is_not_looked_at_leads_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state" / "audit").mkdir(parents=True)
    monkeypatch.setattr(settings, "check_name", ignored)
    assert name_that_leads_away(tmp_path)


async def shown(run_here: Any) -> bool:
    path = Path(os.environ["AGENTHOST_STATE_DIR"], "audit", "a.jsonl")
    await logged(path, line(use("\x1b]0;owned\x07"), 1))
    done: Done = run_here("audit", "show")
    assert done.exit_code == 0
    return "\x1b" in done.stdout


@attack(SCREEN, TERMINAL)
async def test_what_is_shown_controls_no_terminal(run_here: Any) -> None:
    assert not await shown(run_here)


@control(TERMINAL)
async def test_shown_as_it_is_it_does(run_here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "printable", unchanged)
    assert await shown(run_here)

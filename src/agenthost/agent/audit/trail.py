"""From an agent's journal, and from what this host itself decides, to records of the audit log.

What the journal tells was written in the sandbox: it is what the agent's own programs say. What the host
decides, runs or refuses is logged by the host before it takes effect.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

from agenthost.agent.audit.digests import as_data, described, name_of
from agenthost.agent.audit.log import AuditLog, Record
from agenthost.agent.audit.pending import Pending
from agenthost.agent.audit.verdicts import verdict_of
from agenthost.agent.sdk import load_json
from agenthost.errors import AgentError

_log = logging.getLogger("agenthost.agent")

# Words without which a message is not logged. An escape of an ASCII character could hide one of them.
_LOGGED = re.compile(rb"ToolUseBlock|ToolResultBlock|ResultMessage|\\u00[2-7]")
_CALLS = frozenset({"ToolUseBlock", "ServerToolUseBlock"})
_RESULTS = frozenset({"ToolResultBlock", "ServerToolResultBlock"})
# Calls of the host that change what the agent may do.
_SETTINGS = frozenset({"set_permission_mode", "set_model"})
_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, RecursionError)


class AuditTrail:
    """Writes one agent's records. Without a log it does nothing.

    Methods raise AgentError where a record cannot be written: what it tells of must then not go on.

    Attributes:
        on_turn_end: Called when a turn has its result.
        files: Which files of the working directory there were: digests by path, from the records.
        epoch: Counts the agent's drivers, as the last of the log's hosts knew it.
        level: The level that the log was written at before.
    """

    def __init__(self) -> None:
        self.on_turn_end: Callable[[], None] = lambda: None
        self.files: dict[str, str] = {}
        self.epoch = 0
        self.level: str | None = None
        self._log: AuditLog | None = None
        self._full = False
        self._pending = Pending()
        self._expected: int | None = None  # where the journal goes on if the log has all that was before

    @property
    def is_on(self) -> bool:
        """Whether anything is logged."""
        return self._log is not None

    def begin(self, log: AuditLog, *, full: bool, whole: bool) -> None:
        """Log from now on.

        Args:
            log: The file, which was opened with ``restore``.
            full: Whether texts are logged.
            whole: Whether the log has all that the journal held so far.
        """
        self._log, self._full = log, full
        self._expected = None if whole else log.last

    def finish(self, superseded: bool, stays: bool, failure: Exception | None) -> None:
        """Log why this host is done with the agent, and close the file. Idempotent.

        Args:
            superseded: Whether another driver has taken the agent.
            stays: Whether the agent runs on without this host.
            failure: Why its journal cannot be read on; None when it has told the agent's end.
        """
        try:
            if superseded:
                self.lifecycle("superseded")
            elif stays:
                self.lifecycle("detached")
            elif failure is not None:
                self.lifecycle("lost", error=type(failure).__name__)
        except AgentError as error:
            _log.error("%s", error)
        finally:
            self.close()

    def close(self) -> None:
        """Close the file. Idempotent; nothing is logged any more."""
        log, self._log = self._log, None
        if log is not None:
            log.close()

    # ---- what the host does

    def lifecycle(self, event: str, **fields: Any) -> None:
        """Log that the agent was created, attached, detached, superseded or lost."""
        self._write({"event": event, **fields})

    def on_decision(self, kind: str, tool: str, **fields: object) -> None:
        """Log a decision of the host about a tool that it runs itself.

        Args:
            kind: ``allowed`` or ``refused``.
            tool: The tool's name.
            fields: More: ``by``, what decided; texts, numbers, or values of which only the digest is logged.
        """
        word = {"allowed": "allow", "refused": "deny"}.get(kind, name_of(kind))
        self._write(
            {"event": "decision", "tool": name_of(tool), "decision": word, "by": "host", **self._told(fields)}
        )

    def on_refusal(self, kind: str, detail: str) -> None:
        """Log that a request to the model, or a way out of the sandbox, was refused. Raises nothing.

        Args:
            kind: What was refused: ``model`` or ``egress``, for instance.
            detail: Why.
        """
        try:
            self._write({"event": "refusal", "kind": name_of(kind), "detail": name_of(detail)})
        except AgentError as error:
            _log.error("%s", error)  # it is refused all the same, and the next event ends the agent

    def answered(self, question: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        """Log an answer of this process before it is sent."""
        if self._log is None:
            return
        number: object = question.get("id")
        if question.get("what") == "mcp":
            call = _tool_of(question)
            if call is not None:
                given: object = answer.get("result" if answer.get("ok") else "error")
                result = self._described(given)
                failed = not answer.get("ok") or _is_error(given)
                record: Record = {"event": "host_tool_result", "question": number, "tool": call[0]}
                self._write(record | {"is_error": failed, "result": result})
            return
        about = _about(question)
        verdict = verdict_of(question, answer, full=self._full) if about else None
        if verdict is not None:
            self._write({"event": "decision", "question": number, **about, **verdict})

    def called(self, method: str, params: Mapping[str, Any]) -> None:
        """Log a call of the host that changes what the agent may do."""
        if method in _SETTINGS:
            self._write(
                {"event": "setting", "call": method, **{key: name_of(one) for key, one in params.items()}}
            )

    def workdir(self, **fields: Any) -> None:
        """Log which files of the working directory changed."""
        self._write({"event": "files", **fields})

    # ---- what the journal tells

    def message(self, line: bytes, at: int) -> None:
        """Log the tool calls, their results, and the end of a turn, of one message.

        Args:
            line: An event of the journal.
            at: The place behind it, in bytes.
        """
        if self._log is None or self._is_known(at, len(line)) or not _LOGGED.search(line):
            return
        event: dict[str, Any] = {}
        try:
            event = _object(load_json(line))
            records = self._of_message(event["message"])
        except _UNREADABLE:
            records = [{"event": "unreadable"}]
        self._derive(records, event, at)

    def event(self, event: Mapping[str, Any], at: int, size: int) -> None:
        """Log what one event of the journal that is not a message tells."""
        if self._log is None or self._is_known(at, size):
            return
        try:
            records = self._of_event(event)
        except _UNREADABLE:
            records = [{"event": "unreadable"}]
        self._derive(records, _object(event), at)

    def restore(self, record: Record) -> None:
        """Take over what a record of the log tells: of an earlier host, or of this one."""
        pending = self._pending
        match record.get("event"):
            case "created" | "attached":
                self.epoch, self.level = record.get("epoch", 0), record.get("level")
                pending.configure(record)
            case "setting" if record.get("call") == "set_permission_mode":
                pending.configure({"permission_mode": record.get("mode")})
            case "tool_call":
                pending.begin(record["tool_use_id"], record["tool"])
            case "tool_result":
                pending.finish(record["tool_use_id"])
            case "question":
                pending.ask(_number(record["question"]), _about(record))
            case "decision":
                pending.questions.pop(_number(record.get("question")), None)
                is_final = record["decision"] not in ("none", "ask")  # else the CLI decides
                if is_final and isinstance(call := record.get("tool_use_id"), str):
                    pending.decide(call, record["tool"])
            case "turn":
                pending.settle(record["denied"])
            case "files" if "error" not in record:
                self.files.update({**record["added"], **record["changed"]})
                for path in (*record.get("removed", ()), *record.get("unseen", ())):
                    self.files.pop(path, None)
            case _:
                pass

    # ---- by kind

    def _of_message(self, message: Mapping[str, Any]) -> list[Record]:
        content: object = message.get("content")
        if message.get("$type") == "ResultMessage":
            return self._of_result(message)
        blocks = cast("list[object]", content) if isinstance(content, list) else []
        above: object = message.get("parent_tool_use_id")
        found: list[Record] = []
        for block in blocks:
            fields = _object(block)
            if fields.get("$type") in _CALLS:
                record: Record = {"event": "tool_call", "tool": name_of(fields["name"])}
                record |= {"tool_use_id": name_of(fields["id"]), "input": self._described(fields["input"])}
                if above is not None:
                    record["within"] = name_of(above)
                found.append(record)
                self._pending.begin(record["tool_use_id"], record["tool"])
            elif fields.get("$type") in _RESULTS:
                call_id = name_of(fields["tool_use_id"])
                found.append(
                    {"event": "tool_result", "tool": self._pending.finish(call_id), "tool_use_id": call_id}
                    | {
                        "is_error": fields.get("is_error") is True,
                        "result": self._described(fields.get("content")),
                    }
                )
        return found

    def _of_result(self, message: Mapping[str, Any]) -> list[Record]:
        listed: object = message.get("permission_denials")
        denials = cast("list[object]", listed) if isinstance(listed, list) else []
        denied = [name_of(_object(one).get("tool_use_id")) for one in denials]
        # The CLI may name those of older turns.
        denied = [one for one in denied if one in self._pending.calls]
        settled = self._pending.settle(denied)
        turn: Record = {"event": "turn", "subtype": name_of(message.get("subtype")), "denied": denied}
        for name in ("is_error", "num_turns", "total_cost_usd"):
            if isinstance(message.get(name), bool | int | float):
                turn[name] = message[name]
        self.on_turn_end()
        return [*({"event": "decision", **one} for one in settled), turn]

    def _of_event(self, event: Mapping[str, Any]) -> list[Record]:
        match event.get("kind"):
            case "request":
                return self._of_request(event)
            case "answered":
                asked = self._pending.questions.pop(_number(event.get("id")), None)
                if asked is None:
                    return []
                waited = {"decision": "deny", "by": "decision_wait"}
                return [{"event": "decision", "question": event["id"], **asked, **waited}]
            case "request_cancelled":
                self._pending.questions.pop(_number(event.get("id")), None)
                return []
            case "end":
                settled = [{"event": "decision", **one} for one in self._pending.settle(None)]
                kind: object = _object(event.get("error")).get("type")
                return [*settled, {"event": "ended", "error": None if kind is None else name_of(kind)}]
            case _:
                return []

    def _of_request(self, event: Mapping[str, Any]) -> list[Record]:
        number, again = event["id"], {"again": True} if event.get("again") else {}
        if event.get("what") == "mcp":
            call = _tool_of(event)
            if call is None:
                return []
            asked: Record = {"event": "host_tool_call", "question": number, "tool": call[0]}
            return [asked | {"input": self._described(call[1])} | again]
        about = _about(event)
        if not about:
            return []
        self._pending.ask(_number(number), about)
        return [{"event": "question", "question": number, **about} | again]

    # ---- writing

    def _is_known(self, at: int, size: int) -> bool:
        """Return whether the log has an event already. Before the first one that it lacks, log the gap."""
        assert self._log is not None
        expected, self._expected = self._expected, None
        begin = at - size - 1
        if expected is not None and begin > expected:
            # No host that writes here has read what lies between.
            self._write({"event": "gap", "from": expected, "to": begin})
        return at <= self._log.last

    def _derive(self, records: list[Record], event: Mapping[str, Any], at: int) -> None:
        seq: object = event.get("seq")
        told = {"seq": seq} if isinstance(seq, int) else {}
        parts = [
            {**one, **told, "at": at, **({"part": number, "parts": len(records)} if len(records) > 1 else {})}
            for number, one in enumerate(records, 1)
        ]
        self._write(*parts)

    def _write(self, *records: Record) -> None:
        if self._log is not None and records:
            self._log.append(records)
            for record in records:
                if "at" not in record:
                    self.restore(record)

    def _described(self, value: object) -> dict[str, Any]:
        return described(as_data(value), full=self._full)

    def _told(self, fields: Mapping[str, object]) -> Record:
        return {
            key: one
            if isinstance(one, bool | int | float) or one is None
            else name_of(one)
            if isinstance(one, str)
            else self._described(one)
            for key, one in fields.items()
        }


def _about(question: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a question for a decision is about; empty for other questions."""
    if question.get("event") == "question":  # a record
        return {key: question[key] for key in ("tool", "tool_use_id") if key in question}
    if question.get("what") == "can_use_tool":
        return _named(question.get("tool_name"), _object(question.get("context")).get("tool_use_id"))
    if question.get("what") == "hook" and question.get("event") in ("PreToolUse", "PermissionRequest"):
        return _named(_object(question.get("input")).get("tool_name"), question.get("tool_use_id"))
    return {}


def _named(tool: object, call: object) -> dict[str, Any]:
    return {"tool": name_of(tool)} | ({"tool_use_id": name_of(call)} if isinstance(call, str) else {})


def _tool_of(question: Mapping[str, Any]) -> tuple[str, object] | None:
    """Return the name and the input of a call of an in-process MCP tool; None for its other messages."""
    fields = _object(question.get("message"))
    if fields.get("method") != "tools/call":
        return None
    given = _object(fields.get("params"))
    return f"mcp__{name_of(question.get('server'))}__{name_of(given.get('name'))}", given.get("arguments")


def _is_error(answer: object) -> bool:
    """Return whether what a server has answered is an error, of the protocol or of the tool."""
    fields = _object(answer)
    return "error" in fields or _object(fields.get("result")).get("isError") is True


def _object(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _number(value: object) -> int:
    return value if isinstance(value, int) else -1

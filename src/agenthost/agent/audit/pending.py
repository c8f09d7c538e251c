"""Tool calls and questions that have no decision yet, and who decides where this process was not asked."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_MOST = 4096  # calls and questions that are remembered: what comes from inside has no bound of its own

# Tools that the mode ``acceptEdits`` allows.
_EDITS = frozenset({"Edit", "MultiEdit", "NotebookEdit", "Write"})


@dataclass(slots=True)
class Call:
    """A tool call.

    Attributes:
        tool: The tool's name.
        decided: Whether a record tells who decided about it.
        returned: Whether its result has come.
    """

    tool: str
    decided: bool = False
    returned: bool = False


@dataclass(slots=True)
class Pending:
    """What is open.

    Attributes:
        calls: By the id of the tool call.
        questions: Questions to this process that want a decision, by number: the tool and its call's id.
        mode: The permission mode that the host set last.
        allowed: The options' ``allowed_tools``.
        disallowed: The options' ``disallowed_tools``.
    """

    calls: OrderedDict[str, Call] = field(default_factory=OrderedDict[str, Call])
    questions: OrderedDict[int, dict[str, Any]] = field(default_factory=OrderedDict[int, dict[str, Any]])
    mode: str = "default"
    allowed: frozenset[str] = frozenset()
    disallowed: frozenset[str] = frozenset()

    def begin(self, call_id: str, tool: str) -> None:
        """Take note of a call."""
        # A callback may have been asked about it before its message was read.
        before = self.calls.pop(call_id, None)
        self.calls[call_id] = Call(tool, decided=before is not None and before.decided)
        if len(self.calls) > _MOST:
            self.calls.popitem(last=False)

    def decide(self, call_id: str, tool: str) -> None:
        """Take note that somebody decided about a call."""
        if call_id not in self.calls:
            self.begin(call_id, tool)
        self.calls[call_id].decided = True

    def finish(self, call_id: str) -> str | None:
        """Take note of a call's result, and return the tool's name if it is known."""
        call = self.calls.get(call_id)
        if call is None:
            return None
        call.returned = True
        return call.tool

    def ask(self, number: int, fields: dict[str, Any]) -> None:
        """Take note of a question."""
        self.questions[number] = fields
        if len(self.questions) > _MOST:
            self.questions.popitem(last=False)

    def settle(self, denied: Iterable[str] | None) -> list[dict[str, Any]]:
        """Return, and forget, the decisions about calls that the CLI made by itself.

        Args:
            denied: The ids of calls that the turn's result names as denied; None where a turn has no result,
                so that nobody tells.
        """
        refused = None if denied is None else set(denied)
        found: list[dict[str, Any]] = []
        for call_id, call in list(self.calls.items()):
            if not call.returned and refused is not None and call_id not in refused:
                continue  # it runs in the background
            del self.calls[call_id]
            if not call.decided:
                word = "unknown" if refused is None else "deny" if call_id in refused else "allow"
                about = {"tool": call.tool, "tool_use_id": call_id, "decision": word}
                found.append({**about, **self._maker(call.tool, word)})
        return found

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Take over the mode and the rules that a record tells."""
        self.mode = str(settings.get("permission_mode") or self.mode)
        if "allowed_tools" in settings:
            self.allowed = frozenset(map(str, settings["allowed_tools"]))
            self.disallowed = frozenset(map(str, settings["disallowed_tools"]))

    def _maker(self, tool: str, word: str) -> dict[str, str]:
        """Return who decided, as far as the options tell: rules may also be in settings files."""
        by = "rule or mode"
        if word == "deny":
            by = "rule" if tool in self.disallowed else "mode" if self.mode == "dontAsk" else by
        elif word == "allow":
            if self.mode == "bypassPermissions" or (self.mode == "acceptEdits" and tool in _EDITS):
                by = "mode"
            elif tool in self.allowed:
                by = "rule"
        return {"by": by, "mode": self.mode}

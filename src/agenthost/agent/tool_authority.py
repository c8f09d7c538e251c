"""Which calls of in-process MCP tools the host has approved itself.

A ``tools/call`` comes from inside the sandbox, and so may be forged: that the CLI asks for a tool proves
nothing. The host runs the tool only where one of these approves it, all of them the host's own:

- a rule of ``allowed_tools``, or one that an answer of the host added for the session;
- the permission mode that the host set;
- an answer of ``can_use_tool``, of a PermissionRequest hook or of a PreToolUse hook: it is bound to this
  tool and this input, is used once, and ends with the turn after the one that it was given in.

Besides, every PreToolUse hook of the host that applies to the tool must have been asked about this call and
have let it pass. What ``disallowed_tools`` names never runs.

What files inside the sandbox may allow (``setting_sources``, a ``settings`` file, plugins, skills) the host
does not know. There, a call without an approval runs, unless the host denied just that; so it does for a
driver that attached to an agent without saying what its options were. Managed settings of the sandbox's own
image approve nothing here: that they exist is known from inside alone.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections import Counter, deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol, cast

from agenthost.agent.tool_rules import ToolRules, applies_to, full_names
from agenthost.log_once import shortened

_log = logging.getLogger("agenthost.agent")

# How many answers are kept that no call has used: an honest agent has one for each tool call under way.
_KEPT = 4096
_OTHER_PROCESS = "the options, which another process has"
_TOLD = 64  # tools that are warned of
_LARGEST_PLAIN = 1e21  # from here on, JavaScript writes numbers with an exponent
_TURNS = 2  # an answer is given in one turn, and a subagent in the background may act on it in the next

# A driver that attaches with one of them says what the agent's options approve.
TELLING_OPTIONS = frozenset({"allowed_tools", "disallowed_tools", "permission_mode"})

# Command line flags that change who decides.
_DECIDING_FLAGS = frozenset(
    {
        "agents",
        "allow-dangerously-skip-permissions",
        "allowed-tools",
        "allowedTools",
        "dangerously-skip-permissions",
        "managed-settings",
        "permission-mode",
        "permission-prompt-tool",
        "plugin-dir",
        "plugin-url",
        "setting-sources",
        "settings",
    }
)


class OnDecision(Protocol):
    """Is called for each decision about a ``tools/call``."""

    def __call__(self, kind: str, tool: str, *, question: object, by: str, given: Mapping[str, Any]) -> None:
        """Take note of one decision.

        Args:
            kind: ``allow`` or ``deny``.
            tool: The full name, ``mcp__server__tool``.
            question: The number of the question, which the sandbox gave it.
            by: Who or what decided.
            given: The tool's input.
        """
        ...


@dataclass(slots=True)
class _Approval:
    """An answer of the host."""

    tool: str
    given: str  # the input that the tool may run with
    asked: str  # the input that the question was about
    turn: int


@dataclass(slots=True)
class _Hearing:
    """What the PreToolUse hooks answered about one call so far."""

    call: str  # its id, and the tool
    tool: str
    asked: str
    turn: int
    answered: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])
    updated: set[str] = field(default_factory=set[str])
    allowed: bool = False
    asks: bool = False
    denied: bool = False

    @property
    def inputs(self) -> set[str]:
        """The inputs that the call may go on with."""
        return self.updated or {self.asked}


@dataclass(frozen=True, slots=True)
class Question:
    """What a function of the host is asked about a tool, and what it answers.

    Attributes:
        asked: The tool's input, as ``canonical`` writes it; empty for a tool of no MCP server.
    """

    authority: ToolAuthority
    tool: str
    asked: str

    def permission(self, answer: Any) -> None:
        """Take note of what ``can_use_tool`` returned."""
        self.authority.permission_answered(self.tool, self.asked, answer)

    def hook(self, event: Mapping[str, Any], answer: Any) -> None:
        """Take note of what a hook returned, or raised."""
        self.authority.hook_answered(event, self.tool, self.asked, answer)


class ToolAuthority:
    """One agent's approvals. It holds no task and no clock.

    Args:
        hooks: The host's hooks, the SDK's HookMatcher objects by event.

    Attributes:
        on_decision: Is called for each decision.
        refused: How many calls were refused, by the tool's full name.
    """

    def __init__(self, hooks: Mapping[str, Sequence[Any]] | None = None) -> None:
        self.on_decision: OnDecision | None = None
        self.refused: Counter[str] = Counter()
        self._hooks = hooks or {}
        self._rules = ToolRules()
        self._modes: set[str] = set()
        self._unknown: str | None = _OTHER_PROCESS
        self._approvals: deque[_Approval] = deque(maxlen=_KEPT)
        self._hearings: deque[_Hearing] = deque(maxlen=_KEPT)
        self._denials: deque[tuple[str, str]] = deque(maxlen=_KEPT)
        self._turn = 0

    def take_options(self, options: Mapping[str, Any]) -> None:
        """Take over what the options approve, once they are complete.

        Args:
            options: The fields of ClaudeAgentOptions that are not their default, as the CLI gets them.
        """
        self._rules.allow("options", options.get("allowed_tools") or ())
        self._rules.deny("options", options.get("disallowed_tools") or ())
        self._modes = {options.get("permission_mode") or "default"}
        self._unknown = self._read_settings(options.get("settings")) or _unknown_of(options)

    def _read_settings(self, settings: Any) -> str | None:
        """Take over inline settings; return what of them the host cannot judge."""
        if settings is None:
            return None
        try:
            found: Any = json.loads(settings)
        except (TypeError, ValueError):
            return "a settings file"
        if not isinstance(found, dict):
            return "settings"
        fields = cast("dict[str, Any]", found)
        permissions: Any = fields.get("permissions") or {}
        if fields.get("hooks") or not isinstance(permissions, dict):
            return "settings"
        named = cast("dict[str, Any]", permissions)
        self._rules.allow("settings", named.get("allow") or ())
        self._rules.deny("settings", named.get("deny") or ())
        if isinstance(named.get("defaultMode"), str):
            self._modes.add(named["defaultMode"])
        return None

    # ---- what the host answers

    @contextmanager
    def changing_mode(self, mode: str) -> Generator[None]:
        """Have another permission mode: either may be in force inside the block, the new one behind it.

        Where the block raises an error nothing has changed; where it is cancelled, either may be in force.
        """
        before, self._modes = self._modes, {*self._modes, mode}
        try:
            yield
        except Exception:
            self._modes = before
            raise
        self._modes = {mode}
        self._denials.clear()

    def question(self, tool: Any, given: Any) -> Question:
        """Note a question about a tool, as it is now; its answer will be added."""
        return Question(self, str(tool), as_written(given) if str(tool).startswith("mcp__") else "")

    def hook_answered(self, event: Mapping[str, Any], tool: str, asked: str, answer: Any) -> None:
        """Take note of what a hook returned, or raised. See ``Question``."""
        matcher = self._hooks[event["event"]][event["matcher"]]
        if not applies_to(matcher.matcher, tool):
            return  # the CLI asks no such thing
        if event["event"] == "PermissionRequest":
            self._permission_hook_answered(tool, asked, answer)
        elif event["event"] == "PreToolUse" and asked:
            place, fatal = (event["matcher"], event["hook"]), getattr(matcher, "on_failure", None) == "block"
            self._tool_hook_answered(place, f"{event['tool_use_id']} {tool}", asked, answer, fatal=fatal)

    def _tool_hook_answered(
        self, place: tuple[int, int], call: str, asked: str, answer: Any, *, fatal: bool
    ) -> None:
        hearing = self._hearing_of(call, asked, place)
        hearing.answered.add(place)
        verdict, updated = _verdict_of_hook(answer)
        if verdict == "deny" or (fatal and isinstance(answer, BaseException)):
            hearing.denied = True
            self._denials.append((hearing.tool, asked))
        hearing.allowed |= verdict == "allow"
        hearing.asks |= verdict == "ask"
        if updated is not None:
            hearing.updated.add(canonical(updated))

    def _hearing_of(self, call: str, asked: str, place: tuple[int, int]) -> _Hearing:
        for hearing in reversed(self._hearings):
            # A hook that is asked again about the same input is asked about another call.
            is_same = asked == hearing.asked or asked in hearing.updated
            if hearing.call == call and is_same and place not in hearing.answered:
                return hearing
        made = _Hearing(call, call.partition(" ")[2], asked, self._turn)
        self._hearings.append(made)
        return made

    def permission_answered(self, tool: str, asked: str, answer: Any) -> None:
        """Take note of what ``can_use_tool`` returned: the SDK's PermissionResultAllow or Deny."""
        self._decided(
            tool,
            asked,
            getattr(answer, "behavior", None),
            getattr(answer, "updated_input", None),
            [_update_of(one) for one in getattr(answer, "updated_permissions", None) or ()],
        )

    def _permission_hook_answered(self, tool: str, asked: str, answer: Any) -> None:
        decision = _record(_record(answer, "hookSpecificOutput"), "decision")
        updates: Any = decision.get("updatedPermissions")
        listed = cast("list[object]", updates) if isinstance(updates, list) else []
        self._decided(
            tool,
            asked,
            decision.get("behavior"),
            decision.get("updatedInput"),
            [_record(one) for one in listed],
        )

    def _decided(self, tool: str, asked: str, verdict: Any, updated: Any, updates: list[Any]) -> None:
        if verdict == "deny" and asked:
            self._denials.append((tool, asked))
        elif verdict == "allow":
            if asked:  # the CLI takes an empty input for none
                needed = canonical(updated) if updated else asked
                self._approvals.append(_Approval(tool, needed, asked, self._turn))
            for update in updates:
                self._update(update)

    def _update(self, update: Mapping[str, Any]) -> None:
        self._denials.clear()
        if update.get("type") == "setMode":
            self._modes = {str(update.get("mode"))}
        else:
            self._rules.update(update)

    def turn_ended(self) -> None:
        """Forget the answers of the turn before the one that has ended."""
        self._turn += 1
        for kept in (self._approvals, self._hearings):
            while kept and kept[0].turn <= self._turn - _TURNS:
                kept.popleft()

    # ---- what is asked for

    def refusal(self, server: str, tool: str, given: Any, *, question: object = None) -> str | None:
        """Decide about a ``tools/call``, and use up the answers that approve it.

        Returns:
            None where it may run, else why not, for the model.
        """
        names = full_names(server, tool)
        by = self._decide(names, as_written(given))
        is_refused, name = by.startswith("not "), names[1]
        if self.on_decision is not None:
            kind = "deny" if is_refused else "allow"
            self.on_decision(kind, name, question=question, by=by, given=given or {})
        if not is_refused:
            return None
        kept = name if name in self.refused or len(self.refused) < _TOLD else "other tools"
        self.refused[kept] += 1
        if self.refused[kept] == 1:
            _log.warning("a call of %s from inside was refused: %s", shortened(name), by)
        return f"The host refused this call of {name}: {by}."

    def go_on(self, server: str, tool: str, given: Any) -> None:
        """Let the same call come once more: the server has answered that it wants to know something first."""
        name, asked = full_names(server, tool)[1], as_written(given)
        self._approvals.append(_Approval(name, asked, asked, self._turn))
        if wanted := self._hooks_of(name):
            self._hearings.append(_Hearing("", name, asked, self._turn, wanted))

    def _decide(self, names: tuple[str, str], given: str) -> str:
        if self._rules.deny_tool(*names):
            return "not allowed by disallowed_tools"
        name = names[1]
        approval = self._find_approval(name, given)
        wanted = self._hooks_of(name)
        hearing: _Hearing | None = None
        if wanted:
            # What was asked for permission is what the hooks have made of the input.
            asked = given if approval is None else approval.asked
            hearing = self._find_hearing(name, asked, wanted) or self._find_hearing(name, given, wanted)
            if hearing is None:
                return self._without_hearing()
        by = self._approver(names, given, approval, hearing)
        if not by.startswith("not "):
            if hearing is not None:
                self._hearings.remove(hearing)
            if approval is not None:
                self._approvals.remove(approval)
        return by

    def _hooks_of(self, tool: str) -> set[tuple[int, int]]:
        """Return the places of the PreToolUse hooks that the CLI asks about each call of a tool."""
        return {
            (place, number)
            for place, matcher in enumerate(self._hooks.get("PreToolUse", ()))
            if applies_to(matcher.matcher, tool)
            for number in range(len(matcher.hooks))
        }

    def _without_hearing(self) -> str:
        if self._unknown == _OTHER_PROCESS:
            return "not approved by this process, which came while it was under way; it can be called again"
        return "not approved, because a PreToolUse hook has denied it or was not asked about it"

    def _approver(
        self, names: tuple[str, str], given: str, approval: _Approval | None, hearing: _Hearing | None
    ) -> str:
        if approval is not None:
            return "an answer to the question for permission"
        asks = hearing is not None and hearing.asks
        if hearing is not None and hearing.allowed and not asks:
            return "a PreToolUse hook"
        if self._rules.allow_tool(*names) and not asks:
            return "allowed_tools"
        for mode in ("bypassPermissions", "auto"):
            if mode in self._modes:
                return f"permission mode {mode}"
        if asks:
            return "not approved: a PreToolUse hook wants it to be asked, and no answer allows it"
        if (names[1], given) in self._denials:
            return "not approved, because the host denied it"
        if self._unknown is not None:
            return f"nothing that the host knows, but perhaps by {self._unknown}"
        return "not approved by allowed_tools, the permission mode or an answer of the host"

    def _find_approval(self, name: str, given: str) -> _Approval | None:
        return next((one for one in self._approvals if one.tool == name and one.given == given), None)

    def _find_hearing(self, name: str, given: str, wanted: set[tuple[int, int]]) -> _Hearing | None:
        for one in self._hearings:
            if one.tool == name and given in one.inputs and not one.denied and wanted <= one.answered:
                return one
        return None


def as_written(value: Any) -> str:
    """Return the digest of an input that the CLI has written."""
    text = json.dumps(value or {}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def canonical(value: Any) -> str:
    """Return the digest that an input of the host has when the CLI, in JavaScript, has written it."""
    return as_written(_as_javascript(value or {}))


def _as_javascript(value: Any) -> Any:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        try:
            number = float(value)
        except OverflowError:
            return None  # as JavaScript's infinity is written
        if not math.isfinite(number):
            return None
        if number.is_integer() and abs(number) < _LARGEST_PLAIN:
            return int(Decimal(repr(number)))  # the shortest digits that mean it, and zeros
        return number
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return {str(key): _as_javascript(item) for key, item in items}
    if isinstance(value, list | tuple):
        return [_as_javascript(item) for item in cast("Sequence[object]", value)]
    return str(value)


def _record(value: Any, key: str | None = None) -> dict[str, Any]:
    found = value if key is None else _record(value).get(key)
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _verdict_of_hook(answer: Any) -> tuple[str | None, Any]:
    output = _record(answer, "hookSpecificOutput")
    verdict = output.get("permissionDecision")
    if verdict is None:
        old: Mapping[Any, str] = {"approve": "allow", "block": "deny"}
        verdict = old.get(_record(answer).get("decision"))
    return verdict, output.get("updatedInput")


def _update_of(update: Any) -> dict[str, Any]:
    """Return a PermissionUpdate as the CLI gets it."""
    if isinstance(update, dict):
        return cast("dict[str, Any]", update)
    rules = [{"toolName": one.tool_name, "ruleContent": one.rule_content} for one in update.rules or ()]
    made = {"type": update.type, "behavior": update.behavior, "mode": update.mode, "rules": rules}
    return {**made, "destination": update.destination}


def _unknown_of(options: Mapping[str, Any]) -> str | None:
    """Return what in the options may approve a call without the host's seeing it."""
    # None is the CLI's default: all files of settings. Skills need the files, and may allow tools.
    if options.get("setting_sources") is None or options["setting_sources"] or options.get("skills"):
        return "a settings file"
    if options.get("plugins"):
        return "a plugin"
    if options.get("permission_prompt_tool_name"):
        return "permission_prompt_tool_name"
    agents: Mapping[str, Any] = options.get("agents") or {}
    if any(
        getattr(one, "permissionMode", None) or _record(one).get("permissionMode") for one in agents.values()
    ):
        return "a subagent's permissionMode"
    flags = sorted(_DECIDING_FLAGS.intersection(options.get("extra_args") or ()))
    return f"extra_args[{flags[0]!r}]" if flags else None

"""What an answer of this process decides: of ``can_use_tool``, or of a hook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from agenthost.agent.audit.digests import as_data, described, name_of

_ALLOW, _DENY = frozenset({"allow", "approve"}), frozenset({"deny", "block"})


def verdict_of(
    question: Mapping[str, Any], answer: Mapping[str, Any], *, full: bool
) -> dict[str, Any] | None:
    """Return the decision that an answer holds, as fields of a record; None where no decision was asked for.

    Args:
        question: The event ``request`` of the journal.
        answer: The line that is sent to the agent.
        full: Whether texts are logged.
    """
    what = question.get("what")
    if what not in ("can_use_tool", "hook"):
        return None
    made = (
        {"by": "callback"}
        if what == "can_use_tool"
        else {"by": "hook", "hook": name_of(question.get("event"))}
    )
    if not answer.get("ok"):
        # The CLI refuses the tool when its question fails, and goes on after a hook that fails.
        return {**made, "decision": "error", "message": described(answer.get("error"), full=full)}
    result = _fields(answer.get("result"))
    if what == "can_use_tool":
        return {**made, **_permission(result, full=full)}
    return {**made, "decision": _hook(result)}


def _permission(result: Mapping[str, Any], *, full: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"decision": "deny"}
    if result.get("$type") == "PermissionResultAllow":
        found["decision"] = "allow"
        if result.get("updated_input") is not None:
            found["input_replaced_by"] = described(as_data(result["updated_input"]), full=full)
        if result.get("updated_permissions"):
            found["changes_rules"] = True
    elif result.get("message"):
        found["message"] = described(result["message"], full=full)
    return found


def _hook(result: Mapping[str, Any]) -> str:
    """Return what a hook decides, ``none`` where it has no opinion. The fields are those of its output."""
    specific = _fields(result.get("hookSpecificOutput"))
    inner = _fields(specific.get("decision"))
    for word in (specific.get("permissionDecision"), inner.get("behavior"), result.get("decision")):
        if word in _ALLOW:
            return "allow"
        if word in _DENY:
            return "deny"
        if word == "ask":
            return "ask"
    if result.get("continue") is False or result.get("continue_") is False:
        return "stop"
    return "none"


def _fields(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}

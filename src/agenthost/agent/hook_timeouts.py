"""What the CLI makes of a hook that does not answer in time, as an answer.

The CLI's own clock would also run while no host is there. So the host counts, and says in the hook's place
what comes nearest to what the CLI would have done (tried with CLI 2.1.330): the same in all events but two. A
PreToolUse answer adds a prefix to the tool's result and counts as a denial, and the message about a blocked
prompt names another kind of block.
"""

from __future__ import annotations

from typing import Any

_TOOL = (
    "PreToolUse hook did not respond before its timeout (host client may be unreachable). The tool call was "
    "not executed; other configured hooks may not have completed."
)
_STOP = "The app driving this session didn't respond, so this turn ended without it."


def timeout_answer(event: str, seconds: float) -> dict[str, Any]:
    """Return what a hook of this event answers when it has taken longer than ``seconds``."""
    if event == "PreToolUse":
        verdict = {"permissionDecision": "deny", "permissionDecisionReason": _TOOL}
        return {"hookSpecificOutput": {"hookEventName": event, **verdict}}
    if event == "UserPromptSubmit":
        return {
            "decision": "block",
            "reason": f"UserPromptSubmit hook callback timed out after {seconds * 1000:.0f}ms",
            "hookSpecificOutput": {"hookEventName": event, "suppressOriginalPrompt": True},
        }
    if event == "Stop":
        return {"systemMessage": _STOP}
    return {}

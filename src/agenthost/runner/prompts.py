"""Which prompts were given and have no result yet."""

from __future__ import annotations

import uuid
from collections import OrderedDict
from typing import Any

_REMEMBERED = 10_000


class PromptLedger:
    """Prompts by the uuids of their messages, from the moment the host gave them until their result.

    The SDK does not tell its user when the CLI is idle, so prompts are counted against results.
    """

    def __init__(self) -> None:
        self._open: OrderedDict[str, set[str]] = OrderedDict()
        self._seen: OrderedDict[str, None] = OrderedDict()
        self.session_id: str | None = None  # of the last result

    def __len__(self) -> int:
        return len(self._open)

    def add(self, prompt_id: str, messages: list[dict[str, Any]]) -> bool:
        """Open a prompt. False when this id was given before: the host repeated itself."""
        if prompt_id in self._seen:
            return False
        self._seen[prompt_id] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        wanted = {str(m["uuid"]) for m in messages if m.get("type") == "user"}
        if wanted:
            self._open[prompt_id] = wanted
        return True

    def result(self, message: Any) -> None:
        """Close what a ResultMessage answers."""
        self.session_id = getattr(message, "session_id", None) or self.session_id
        answered: set[str] = set(getattr(message, "user_message_uuids", None) or ())
        single = getattr(message, "user_message_uuid", None)
        if single:
            answered.add(single)
        if not answered:
            # An older CLI names no prompts: results come in the order of the prompts. A turn that the CLI
            # began by itself, for a finished background task, answers none.
            if self._open and getattr(message, "origin", None) is None:
                self._open.popitem(last=False)
            return
        for prompt_id in list(self._open):
            self._open[prompt_id] -= answered
            if not self._open[prompt_id]:
                del self._open[prompt_id]


def as_messages(prompt: str | list[dict[str, Any]], prompt_id: str, session_id: str) -> list[dict[str, Any]]:
    """Return the messages of a prompt, each user message with a uuid that its result will name."""
    if isinstance(prompt, str):
        return [
            {
                "type": "user",
                "message": {"role": "user", "content": prompt},
                "parent_tool_use_id": None,
                "session_id": session_id,
                "uuid": prompt_id,
            }
        ]
    made: list[dict[str, Any]] = []
    for number, message in enumerate(prompt):
        if message.get("type") == "user" and not message.get("uuid"):
            # The same ids for the same prompt, should it be given again.
            own = prompt_id if number == 0 else str(uuid.uuid5(uuid.NAMESPACE_OID, f"{prompt_id}/{number}"))
            message = {**message, "uuid": own}
        made.append(message)
    return made

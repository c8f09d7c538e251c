"""What a scripted model was asked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

Kind = Literal["turn", "side_query", "count_tokens", "probe", "unknown"]

_REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """A tool's answer, as the model sees it."""

    tool_use_id: str
    text: str
    is_error: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One HTTP request.

    Attributes:
        method: ``POST``, ``HEAD`` ...
        path: Without the query.
        query: What follows the question mark.
        headers: Names in lower case; the values of a repeated header are joined by a comma.
        body: The parsed JSON body; empty where there was none.
        kind: ``turn`` is answered by the script. ``side_query`` is a question that the CLI asks for itself
            (a title for the session), answered by its schema. ``count_tokens`` and ``probe`` (HEAD) are
            answered, ``unknown`` gets a 404.
        step: The number of the step that answered, from 0; None unless the script did.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str] = field(repr=False)
    body: Mapping[str, Any] = field(repr=False)
    kind: Kind
    step: int | None = None

    @property
    def api_key(self) -> str | None:
        """The credential: ``x-api-key``, else the bearer token."""
        if key := self.headers.get("x-api-key"):
            return key
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" and token else None

    @property
    def model(self) -> str:
        """The model that was asked for."""
        return str(self.body.get("model", ""))

    @property
    def tools(self) -> Sequence[str]:
        """Names of the tools that the model may use."""
        return [str(tool.get("name", "")) for tool in _dicts(self.body.get("tools"))]

    @property
    def system(self) -> str:
        """The system prompt as one text."""
        return text_of(self.body.get("system"))

    @property
    def messages(self) -> Sequence[Mapping[str, Any]]:
        """The conversation so far."""
        return _dicts(self.body.get("messages"))

    @property
    def prompt(self) -> str:
        """The latest text of the user, without the CLI's own reminders."""
        for message in reversed(self.messages):
            if message.get("role") != "user":
                continue
            content: object = message.get("content")
            text = _REMINDER.sub("", text_of(content)).strip()
            if text:
                return text
        return ""

    @property
    def tool_results(self) -> Sequence[ToolResult]:
        """Results of the tools that the latest answer asked for, in order."""
        for message in reversed(self.messages):
            if message.get("role") == "assistant":
                return []
            results = [
                block for block in _dicts(message.get("content")) if block.get("type") == "tool_result"
            ]
            if results:
                return [
                    ToolResult(
                        tool_use_id=str(block.get("tool_use_id", "")),
                        text=text_of(block.get("content")),
                        is_error=bool(block.get("is_error")),
                    )
                    for block in results
                ]
        return []


def text_of(content: object) -> str:
    """Return the text of a message's content: a string, or the text blocks joined by newlines."""
    if isinstance(content, str):
        return content
    return "\n".join(str(block.get("text", "")) for block in _dicts(content) if block.get("type") == "text")


def _dicts(value: object) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        return []
    return [cast("dict[str, Any]", item) for item in cast("list[object]", value) if isinstance(item, dict)]

"""Reads an answer's own count of tokens as the answer passes by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from agenthost.agent.model_prices import Tokens

# A line of events that is longer holds a block of content and no usage; it is not kept.
_LONGEST_LINE = 256 * 1024
# An answer that comes as a whole is kept up to here: 128,000 tokens are about 1 MB.
_LARGEST_ANSWER = 16 * 1024 * 1024
_TELLING = (b'"message_start"', b'"message_delta"')


class UsageReader:
    """Takes an answer's bytes, in pieces of any size, and knows the usage that the answer states.

    Attributes:
        tokens: The last usage that was stated; None where there was none.
        models: Usage of other models that took part (``iterations``), by the model.
        is_final: Whether the answer has stated all that it used.
        begun: Whether the model has begun to answer.
    """

    def __init__(self, *, streams: bool) -> None:
        """Read an answer.

        Args:
            streams: Whether it comes as server-sent events, else as one JSON message.
        """
        self.tokens: Tokens | None = None
        self.models: dict[str, Tokens] = {}
        self.is_final = False
        self.begun = False
        self._streams = streams
        self._parts: list[bytes] = []  # of an answer that comes as a whole
        self._size = 0
        self._kept: bytes = b""  # the beginning of a line
        self._skips = False  # the rest of a line that was too long

    def take(self, data: bytes) -> None:
        """Take the next bytes of the answer."""
        if not self._streams:
            if self._size <= _LARGEST_ANSWER:
                self._size += len(data)
                self._parts.append(data)
            return
        if self._skips:
            _, newline, data = data.partition(b"\n")
            if not newline:
                return
            self._skips = False
        text = self._kept + data
        # Nearly all of an answer is text. It is looked through and not taken apart.
        if any(word in text for word in _TELLING):
            lines = text.split(b"\n")
            for line in lines[:-1]:
                self._take_line(line)
            self._kept = lines[-1]
        else:
            self._kept = text[text.rfind(b"\n") + 1 :]
        if len(self._kept) > _LONGEST_LINE:
            self._kept, self._skips = b"", True

    def end(self) -> None:
        """The answer is complete."""
        if not self._streams:
            message = _parse(b"".join(self._parts))
            if self._note(message.get("usage")):
                self.begun = self.is_final = True

    def _take_line(self, line: bytes) -> None:
        if line.startswith(b"data:") and any(word in line for word in _TELLING):
            event = _parse(line[5:])
            if event.get("type") == "message_start":
                self.begun = True
                self._note(_mapping(event.get("message")).get("usage"))
            elif event.get("type") == "message_delta":
                # Its counts are sums over the whole answer. The last one comes before the end.
                self.is_final = self._note(event.get("usage"))

    def _note(self, usage: object) -> bool:
        """Note a usage; return whether it includes the tokens of the answer."""
        stated = _mapping(usage)
        if not stated:
            return False
        before = self.tokens or Tokens()
        self.tokens = _tokens(stated, before)
        iterations = stated.get("iterations")
        if isinstance(iterations, list):
            self.models = {}
            for one in cast("list[object]", iterations):
                model = _mapping(one).get("model")
                if isinstance(model, str):
                    self.models[model] = _tokens(_mapping(one), Tokens(), after=self.models.get(model))
        return isinstance(stated.get("output_tokens"), int)


def _tokens(stated: Mapping[str, Any], before: Tokens, *, after: Tokens | None = None) -> Tokens:
    """Return the counts; a count that is missing is as before. ``after`` is added."""
    creation = _mapping(stated.get("cache_creation"))
    long = _count(creation.get("ephemeral_1h_input_tokens"), before.written_long)
    written = _count(stated.get("cache_creation_input_tokens"), before.written + before.written_long)
    searches = _mapping(stated.get("server_tool_use")).get("web_search_requests")
    more = after or Tokens()
    return Tokens(
        input=_count(stated.get("input_tokens"), before.input) + more.input,
        output=_count(stated.get("output_tokens"), before.output) + more.output,
        read=_count(stated.get("cache_read_input_tokens"), before.read) + more.read,
        written=max(0, written - long) + more.written,
        written_long=long + more.written_long,
        searches=_count(searches, before.searches) + more.searches,
    )


def _count(value: object, other: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else other


def _parse(data: bytes) -> Mapping[str, Any]:
    try:
        return _mapping(json.loads(data))
    except (ValueError, RecursionError):
        return {}


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}

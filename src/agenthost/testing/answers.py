"""Turns of a script in the Messages API's own form: server-sent events, or one JSON message."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

from agenthost.testing.script import Block, Cut, Hold, Stall, StreamError, Text, Thinking, ToolUse, Turn

Pause = Hold | Stall | Cut


def encode_events(turn: Turn, model: str) -> Iterator[bytes | Pause]:
    """Yield the events of a streamed turn in order, and the pauses between them.

    ``message_start`` comes with the first block: a turn that begins with a pause has sent nothing.
    """
    usage = {
        "input_tokens": turn.input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 1,
    }
    start = _event(
        "message_start",
        message={
            **_envelope(model),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        },
    )
    index = -1
    text_is_open = False
    for item in turn.items:
        if isinstance(item, Pause):
            yield item
            continue
        if start:
            yield start
            start = b""
        if text_is_open and not isinstance(item, Text):
            yield _event("content_block_stop", index=index)
            text_is_open = False
        if isinstance(item, StreamError):
            yield _event("error", error={"type": item.type, "message": item.message})
            return
        if not text_is_open:
            index += 1
            yield _event("content_block_start", index=index, content_block=_empty(item))
        yield from _deltas(item, index)
        text_is_open = isinstance(item, Text) and not item.end
        if not text_is_open:
            yield _event("content_block_stop", index=index)
    if start:
        yield start
    if text_is_open:
        yield _event("content_block_stop", index=index)
    yield _event(
        "message_delta",
        delta={"stop_reason": turn.stop_reason, "stop_sequence": None},
        usage={"output_tokens": turn.output_tokens},
    )
    yield _event("message_stop")


def whole_message(turn: Turn, model: str) -> dict[str, Any]:
    """Return the answer to a request that does not stream."""
    content: list[dict[str, Any]] = []
    joined = False
    for item in turn.items:
        match item:
            case Text() if joined:
                content[-1]["text"] += item.text
            case Text():
                content.append({"type": "text", "text": item.text})
            case Thinking():
                content.append({"type": "thinking", "thinking": item.thinking, "signature": item.signature})
            case ToolUse():
                content.append({**_empty(item), "input": dict(item.input)})
            case Block():
                content.append(dict(item.content))
            case _:
                continue
        joined = isinstance(item, Text) and not item.end
    return {
        **_envelope(model),
        "content": content,
        "stop_reason": turn.stop_reason,
        "stop_sequence": None,
        "usage": {"input_tokens": turn.input_tokens, "output_tokens": turn.output_tokens},
    }


def by_schema(schema: dict[str, Any]) -> object:
    """Return some value that fits a simple JSON schema."""
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for choice in ("anyOf", "oneOf", "allOf"):
        if schema.get(choice):
            return by_schema(schema[choice][0])
    kinds: str | list[str] = schema.get("type", "string")
    match kinds if isinstance(kinds, str) else kinds[0]:
        case "object":
            properties: dict[str, dict[str, Any]] = schema.get("properties") or {}
            return {name: by_schema(inner) for name, inner in properties.items()}
        case "array":
            return [by_schema(schema.get("items") or {})] * int(schema.get("minItems", 0))
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return "Scripted answer"


def _envelope(model: str) -> dict[str, Any]:
    return {"id": f"msg_{uuid.uuid4().hex[:24]}", "type": "message", "role": "assistant", "model": model}


def _empty(item: Text | Thinking | ToolUse | Block) -> dict[str, Any]:
    match item:
        case Text():
            return {"type": "text", "text": ""}
        case Thinking():
            return {"type": "thinking", "thinking": "", "signature": ""}
        case ToolUse():
            tool_id = item.id or f"toolu_{uuid.uuid4().hex[:24]}"
            return {"type": "tool_use", "id": tool_id, "name": item.name, "input": {}}
        case Block():
            return {**item.content, "input": {}} if "input" in item.content else dict(item.content)


def _deltas(item: Text | Thinking | ToolUse | Block, index: int) -> Iterator[bytes]:
    match item:
        case Text():
            # Twenty thousand of these must not be slower to make than to read: only the text is encoded anew.
            before, after = _delta(index, type="text_delta", text="\0").split(b'"\\u0000"')
            for piece in item.pieces():
                yield before + json.dumps(piece).encode() + after
        case Thinking():
            yield _delta(index, type="thinking_delta", thinking=item.thinking)
            yield _delta(index, type="signature_delta", signature=item.signature)
        case ToolUse():
            text = json.dumps(dict(item.input))
            for start in range(0, len(text), item.delta or len(text)):
                piece = text[start : start + (item.delta or len(text))]
                yield _delta(index, type="input_json_delta", partial_json=piece)
        case Block():
            if "input" in item.content:
                yield _delta(index, type="input_json_delta", partial_json=json.dumps(item.content["input"]))


def _delta(index: int, **delta: object) -> bytes:
    return _event("content_block_delta", index=index, delta=delta)


def _event(kind: str, **fields: object) -> bytes:
    data = json.dumps({"type": kind, **fields}, separators=(",", ":"))
    return f"event: {kind}\ndata: {data}\n\n".encode()

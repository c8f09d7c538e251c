"""The SDK on the host: imported when it is needed, beside other work."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from typing import Any

from agenthost.threads import in_thread
from agenthost.wire.codec import Codec, public_classes
from agenthost.wire.json_bounds import check_values

_codecs: dict[int, Codec] = {}
_parse: Callable[[bytes], Any] | None = None


def loaded_sdk() -> Any:
    """Return the SDK; imports it here and now where that has not been done."""
    return importlib.import_module("claude_agent_sdk")


async def import_sdk() -> Any:
    """Import the SDK in a thread: it takes half a second or more, and a sandbox starts meanwhile."""
    if "claude_agent_sdk" in sys.modules:
        return loaded_sdk()
    return await in_thread(loaded_sdk)


def sdk_codec(sdk: Any) -> Codec:
    """Return the codec for this SDK's classes."""
    codec = _codecs.get(id(sdk))
    if codec is None:
        codec = _codecs[id(sdk)] = Codec(public_classes(sdk))
    return codec


def load_json(line: bytes) -> Any:
    """Parse a line of the journal, twice as fast as the stdlib where pydantic's parser takes it.

    Raises:
        ValueError: It is not JSON, or holds more values than are taken.
    """
    check_values(line)
    global _parse
    parse = _parse
    if parse is None:
        found: Callable[[bytes], Any] = importlib.import_module("pydantic_core").from_json
        parse = _parse = found
    try:
        return parse(line)
    except ValueError:
        return json.loads(line)  # half of a character, or nested deeper than that parser goes

"""SDK messages as JSON, for what is not Python: a browser, a log, a queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from agenthost.agent.sdk import loaded_sdk, sdk_codec

if TYPE_CHECKING:
    from claude_agent_sdk import Message


def message_to_json(message: Message) -> str:
    """Return a message as one line of ASCII JSON, which holds all of it.

    Each object of the SDK says its class: ``{"$type": "TextBlock", "text": "hello"}``. A field that is None
    and whose default is None is left out; a key of a plain dict that begins with ``$`` gets one more.

    Raises:
        ValueError: It holds something that is no data, or is nested too deeply.
    """
    return sdk_codec(loaded_sdk()).dumps(message)


def message_from_json(text: str | bytes) -> Message:
    """Return the message that ``message_to_json`` was given, perhaps by another process.

    Raises:
        ValueError: It is something else.
    """
    sdk = loaded_sdk()
    found = sdk_codec(sdk).loads(text)
    if not type(found).__module__.startswith((f"{sdk.__name__}.", "agenthost.wire.codec")):
        raise ValueError(f"a {type(found).__name__} is no message: message_to_json makes one")
    return cast("Message", found)

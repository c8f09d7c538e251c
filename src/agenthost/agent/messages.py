"""The messages of an agent, decoded when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import anyio.lowlevel

from agenthost.agent.errors import rebuild, rebuild_refusal
from agenthost.agent.journal import Journal
from agenthost.agent.life import AgentLife
from agenthost.agent.sdk import load_json
from agenthost.agent.store import Append
from agenthost.errors import AgentError
from agenthost.log_once import shortened
from agenthost.wire.fields import WRONG_SHAPE

if TYPE_CHECKING:
    from claude_agent_sdk import Message

T = TypeVar("T")

_CHECKPOINT_EVERY = 32
_NO_MESSAGES = (str, bytes, int, float, list, tuple, dict, PurePath, type(None))  # what else a codec makes


class Messages:
    """Iterates over an agent's messages. Not a generator: nothing is left open when it is dropped."""

    def __init__(self, life: AgentLife, *, until_result: bool) -> None:
        self._life = life
        self._until_result = until_result
        self._over = False
        self._count = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        if self._over:
            raise StopAsyncIteration
        self._count += 1
        if self._count % _CHECKPOINT_EVERY == 0:
            await anyio.lowlevel.checkpoint()
        life = self._life
        item = await journal_of(life).next()
        if item is None:
            self._over = True
            error = life.end_error()
            if error is not None:
                raise error
            raise StopAsyncIteration
        if isinstance(item, Append):
            return cast("Message", _read(item.message, life.sdk))
        if not isinstance(item, bytes):
            raise rebuild(item.error, life.sdk, life.codec)
        message = _read(decode_message, item, life)
        if self._until_result and type(message).__name__ == "ResultMessage":
            self._over = True
        return message

    async def aclose(self) -> None:
        """End the iteration. The messages that were not read stay for another reader."""
        self._over = True


def decode_message(line: bytes, life: AgentLife) -> Message:
    """Return the message of a journal line."""
    encoded = load_json(line)["message"]
    # In a partial message the mark of its class is the only one: nearly all of a flood is like that.
    flat = line.count(b'"$') == 1
    message: object = life.codec.decode_flat(encoded) if flat else life.codec.decode(encoded)
    if issubclass(cls := message.__class__, _NO_MESSAGES):
        raise TypeError(f"a {cls.__name__} in the place of a message")
    return cast("Message", message)


def read_reply(reply: Mapping[str, Any], life: AgentLife) -> Any:
    """Return what a method of the client has returned inside, or raise what it has raised."""
    error = _read(lambda: None if reply["ok"] else reply["error"])
    if error is not None:
        raise rebuild_refusal(error, life.sdk, life.codec)
    return _read(lambda: life.codec.decode(reply["result"]))


def _read(read: Callable[..., T], *arguments: Any) -> T:
    """Read what came out of the sandbox, which may be anything."""
    try:
        return read(*arguments)
    except WRONG_SHAPE as error:
        raise AgentError(
            f"the agent's journal holds what cannot be read: {shortened(repr(error))}"
        ) from error


def journal_of(life: AgentLife) -> Journal:
    """Return an agent's journal. AgentError before it is there."""
    if life.journal is None:
        raise AgentError("the agent is not ready yet")
    return life.journal

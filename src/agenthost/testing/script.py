"""What a scripted model says: the words of which a script is made. Values only, no I/O."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import anyio

if TYPE_CHECKING:
    from agenthost.testing.requests import ModelRequest

_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


@dataclass(frozen=True, slots=True)
class Text:
    """A text block.

    Attributes:
        text: What the model says.
        delta: Characters per streamed delta; None sends the text as one delta.
        end: False leaves the block open: the next Text of the turn goes on in the same block, after
            whatever stands between them (a Hold, a Stall, a Cut).
    """

    text: str
    delta: int | None = field(default=None, kw_only=True)
    end: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        """Refuse a delta size that would never end."""
        if self.delta is not None and self.delta < 1:
            raise ValueError(f"delta is {self.delta}; it must be at least 1 character")

    @staticmethod
    def deltas(count: int, size: int = 8) -> Text:
        """Return a text of ``count`` deltas of ``size`` characters each, numbered so that a loss shows.

        The number of a delta is cut to its last digits where ``size`` is too small for it.
        """
        if count < 1 or size < 1:
            raise ValueError(f"deltas({count}, {size}): both must be at least 1")
        if size == 1:
            return Text("".join(str(number % 10) for number in range(count)), delta=1)
        digits = size - 1
        pieces = (str(number).zfill(digits)[-digits:] for number in range(count))
        return Text("".join(f"{piece} " for piece in pieces), delta=size)

    def pieces(self) -> Sequence[str]:
        """Return the text as it is cut into deltas."""
        if self.delta is None:
            return (self.text,)
        return [self.text[start : start + self.delta] for start in range(0, len(self.text), self.delta)]


@dataclass(frozen=True, slots=True)
class Thinking:
    """A thinking block with its signature."""

    thinking: str
    signature: str = "c2NyaXB0ZWQ="


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The model asks for a tool.

    Attributes:
        name: The tool's name, ``Bash`` or ``mcp__server__tool``.
        input: The tool's input, JSON data.
        id: The block's id; None makes a fresh one.
        delta: Characters per streamed piece of the input's JSON; None sends it as one piece.
    """

    name: str
    input: Mapping[str, object] = field(default_factory=dict[str, object])
    id: str | None = field(default=None, kw_only=True)
    delta: int | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class Block:
    """A content block of any other type, such as ``server_tool_use``.

    Attributes:
        content: The block as the API sends it, with its ``type``. An ``input`` is streamed as JSON.
    """

    content: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Hold:
    """Wait for an event before going on. What stands before it in the turn has been sent."""

    event: anyio.Event


@dataclass(frozen=True, slots=True)
class Stall:
    """Silence, until the client goes away. What stands before it in the turn, at least the head, was sent."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Close the connection in the middle of the answer. What stands before it in the turn has been sent."""


@dataclass(frozen=True, slots=True)
class StreamError:
    """An error event in the middle of a stream, as the API sends when it is overloaded."""

    type: str = "overloaded_error"
    message: str = "scripted error in the stream"


@dataclass(frozen=True, slots=True)
class ApiError:
    """An HTTP error in place of an answer, for one request: a retry of the client is the next step.

    Attributes:
        status: The HTTP status, 529 is "overloaded".
        message: The message in the body.
        type: The error type in the body; None is the one that the API uses with this status.
        retry: Whether the client is told to try again (``x-should-retry``). None leaves it to the client:
            the CLI repeats 401, 408, 409, 429 and 5xx up to ten times, and rephrases a 400 up to five times.
        headers: Further headers, such as ``retry-after``.
    """

    status: int
    message: str = "scripted error"
    type: str | None = None
    retry: bool | None = field(default=None, kw_only=True)
    headers: Mapping[str, str] = field(default_factory=dict[str, str], kw_only=True)

    def body(self) -> dict[str, object]:
        """Return the JSON body of the answer."""
        kind = self.type or _ERROR_TYPES.get(self.status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": self.message}}


Item: TypeAlias = Text | Thinking | ToolUse | Block | Hold | Stall | Cut | StreamError
"""One thing in a turn."""


@dataclass(frozen=True, slots=True, init=False)
class Turn:
    """One answer of the model: blocks in order, and what happens between them.

    Attributes:
        items: The blocks, holds, stalls, cuts and errors.
        stop_reason: None is ``tool_use`` when a tool is asked for, else ``end_turn``.
        input_tokens: Tokens in the usage.
        output_tokens: Tokens in the usage.
        headers: Further headers of the answer, such as what the API tells of rate limits.
    """

    items: tuple[Item, ...]
    stop_reason: str
    input_tokens: int
    output_tokens: int
    headers: Mapping[str, str]

    def __init__(
        self,
        *items: Item,
        stop_reason: str | None = None,
        input_tokens: int = 10,
        output_tokens: int = 20,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Make a turn of blocks in order.

        Raises:
            TypeError: Something else stands between them.
        """
        wrong = [item for item in list[object](items) if not isinstance(item, Item)]
        if wrong:
            raise TypeError(f"{wrong[0]!r} cannot stand in a turn")
        asks = any(isinstance(item, ToolUse) for item in items)
        # A frozen dataclass with positional items needs its own __init__, which may only set this way.
        object.__setattr__(self, "items", items)
        object.__setattr__(self, "stop_reason", stop_reason or ("tool_use" if asks else "end_turn"))
        object.__setattr__(self, "input_tokens", input_tokens)
        object.__setattr__(self, "output_tokens", output_tokens)
        object.__setattr__(self, "headers", dict(headers or {}))


Answer: TypeAlias = Turn | Item | Sequence[Item] | ApiError
"""What answers one request: a turn, one block, several blocks, or an HTTP error."""

Step: TypeAlias = Answer | Callable[["ModelRequest"], Answer | Awaitable[Answer]]
"""One step of a script: an answer, or a function (sync or async) that makes one from the request.

Nothing is sent while an async function runs: awaiting in it holds the request before its head.
"""


def as_turn(answer: Answer) -> Turn | ApiError:
    """Return an answer in its one full form.

    Raises:
        TypeError: It is none of the forms.
    """
    if isinstance(answer, Turn | ApiError):
        return answer
    if isinstance(answer, Text | Thinking | ToolUse | Block | Hold | Stall | Cut | StreamError):
        return Turn(answer)
    made: object = answer  # a function of the script may have returned anything
    if isinstance(made, list | tuple):
        return Turn(*answer)
    raise TypeError(f"{made!r} is no step of a script: use Text, ToolUse, a list of them, ApiError ...")

"""What an agent is doing, as far as its journal tells somebody who changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from agenthost.agent import Cursor
from agenthost.cli.events import Event, read_events
from agenthost.errors import ReplayGapError

if TYPE_CHECKING:
    from agenthost.link.agents import AgentStatus
    from agenthost.link.client import GuestSandbox

State = Literal["starting", "working", "idle", "waiting for a decision", "waiting for a host", "ended"]

_KIB = 1024
# How much of a journal's end is read until it tells enough; attaching looks further back than listing.
_LOOKS = (64 * _KIB, 512 * _KIB, 4096 * _KIB)
_FAR_LOOKS = (256 * _KIB, 4096 * _KIB, 32768 * _KIB)
_DECISIONS = ("can_use_tool", "hook")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One agent at one moment.

    Attributes:
        state: What it does.
        busy: Whether a prompt has no result yet.
        session_id: The session's id, when it is known.
        error: The name of the exception that it ended with.
        turn: The place before its newest turn.
        last: The number of the last message.
        failed: Whether the last result is an error; None when there is no result.
    """

    state: State
    busy: bool
    session_id: str | None
    error: str | None
    turn: Cursor
    last: int
    failed: bool | None


class Story:
    """What a row of events amounts to. Survives whatever a sandbox writes there."""

    def __init__(self) -> None:
        self.connected: bool | None = None
        self.busy: bool | None = None
        self.ended = False
        self.error: str | None = None
        self.session_id: str | None = None
        self.begin: Cursor | None = None  # before the first event that was read
        self.last = 0
        self.failed: bool | None = None
        self.results: list[Cursor] = []
        self._open: dict[str, object] = {}
        self._waits = False

    def take(self, event: Event) -> None:
        """Go on with one event."""
        if self.begin is None:
            self.begin = event.before
        match event.kind:
            case "message":
                self._message(event)
            case "state":
                self._state(event.fields())
            case "request":
                fields = event.fields()
                self._open[str(fields.get("id"))] = fields.get("what")
            case "request_cancelled" | "answered":
                self._open.pop(str(event.fields().get("id")), None)
            case "end":
                self._end(event.fields())
            case _:
                pass

    def state(self, status: AgentStatus) -> State:
        """Return what the agent does, with what the guest says of it."""
        if self.ended or status.exit_code is not None:
            return "ended"
        if not self.connected:
            return "starting"
        if any(what in _DECISIONS for what in self._open.values()):
            return "waiting for a decision"
        if not status.driven and (self._waits or self._open):
            return "waiting for a host"
        return "working" if self.busy else "idle"

    @property
    def turn(self) -> Cursor:
        """The place before the newest turn, or before the first event that was read."""
        behind = self.results if self.busy else self.results[:-1]
        return behind[-1] if behind else self.begin or Cursor()

    @property
    def has_turn(self) -> bool:
        """Whether ``turn`` is the beginning of one."""
        return len(self.results) >= (1 if self.busy else 2)

    # ---- by kind

    def _message(self, event: Event) -> None:
        self.connected, self._waits, self.last = True, False, event.seq
        kind = event.message_type
        if self.session_id is None or kind == "ResultMessage":
            message = event.fields().get("message")
            found = cast("dict[str, Any]", message) if isinstance(message, dict) else {}
            data: Any = found.get("data")
            self._session(found.get("session_id") or (data.get("session_id") if _is_dict(data) else None))
            if kind == "ResultMessage":
                self.results.append(event.cursor)
                self.failed = found.get("is_error") is not False
                return
        if self.busy is None and kind != "ResultMessage":
            self.busy = True

    def _state(self, fields: dict[str, Any]) -> None:
        match fields.get("state"):
            case "ready":
                self.connected = False
            case "connected":
                self.connected, self.busy = True, bool(self.busy)
            case "busy" | "idle" as state:
                self.connected, self.busy, self._waits = True, state == "busy", False
            case "attached":
                self.connected, self.busy = fields.get("connected") is True, fields.get("busy") is True
                self._waits = False
                self._open.clear()  # what is open is asked again
                self._session(fields.get("session_id"))
            case "waiting_for_host":
                self._waits = True
            case _:
                pass

    def _end(self, fields: dict[str, Any]) -> None:
        self.ended, self.busy = True, bool(self.busy)
        error: Any = fields.get("error")
        if _is_dict(error):
            self.error = str(error.get("type"))

    def _session(self, value: object) -> None:
        if isinstance(value, str) and value:
            self.session_id = value


def _is_dict(value: object) -> bool:
    return isinstance(value, dict)


async def look_at(sandbox: GuestSandbox, status: AgentStatus, *, find_turn: bool = False) -> View:
    """Read the end of an agent's journal, as an observer, as far back as is needed.

    Args:
        sandbox: Where it is.
        status: What the guest tells of it; what was written later is not read.
        find_turn: Look further back for the beginning of its newest turn.

    Raises:
        AgentError: The journal cannot be read.
        LinkError: The sandbox cannot be reached.
    """
    story = Story()
    for size in _FAR_LOOKS if find_turn else _LOOKS:
        start = max(status.journal_begin, status.journal_end - size)
        story = await _read(sandbox, status, start, status.journal_end)
        enough = story.busy is not None and (story.has_turn or not find_turn)
        if enough or start == status.journal_begin:
            break
    session_id = story.session_id
    if session_id is None and story.begin is not None and story.begin.seq and not status.journal_begin:
        # Only the first messages of a turn may say it.
        session_id = (await _read(sandbox, status, 0, _LOOKS[0])).session_id
    return View(
        state=story.state(status),
        busy=bool(story.busy),
        session_id=session_id,
        error=story.error,
        turn=story.turn,
        last=story.last,
        failed=story.failed,
    )


async def _read(sandbox: GuestSandbox, status: AgentStatus, start: int, end: int) -> Story:
    if start > status.journal_begin:
        try:
            return await _fold(sandbox, status.agent, start, end)
        except ReplayGapError:
            pass  # its beginning has gone meanwhile
    return await _fold(sandbox, status.agent, None, end)


async def _fold(sandbox: GuestSandbox, agent: str, start: int | None, end: int) -> Story:
    story = Story()
    async with read_events(sandbox, agent, after=start, until=end) as events:
        async for event in events:
            story.take(event)
    return story

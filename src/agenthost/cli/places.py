"""From where on an agent is read: what ``--after`` takes."""

from __future__ import annotations

import typer

from agenthost.agent import Cursor
from agenthost.cli.events import read_events
from agenthost.cli.finding import Found
from agenthost.errors import ConfigError, ReplayGapError

AFTER_HELP = "A cursor as 12:3456, the number of an event, or oldest for all that is kept."
AGENT_HELP = "An agent's name or the beginning of it, its sandbox's, or the JSON of a ref."


def check_place(text: str | None) -> None:
    """Refuse what can be no place in any journal, before anything is looked for. None is not given.

    Raises:
        typer.BadParameter: It has another form.
    """
    if text is None or text == "oldest" or (text.isascii() and text.isdigit()):
        return
    try:
        Cursor.parse(text)
    except ConfigError as error:
        raise typer.BadParameter(f"{error}. {AFTER_HELP}", param_hint="--after") from None


async def place_of(text: str, found: Found) -> Cursor:
    """Return the cursor that a text names in an agent's journal.

    Raises:
        ConfigError: It names no place in it.
        ReplayGapError: What lies behind it is not kept any more.
    """
    if text == "oldest":
        return await _oldest(found)
    if text.isascii() and text.isdigit():
        return await _behind(int(text), found)
    cursor = Cursor.parse(text)
    status = found.status
    if cursor.offset > status.journal_end:
        raise ConfigError(f"cursor {cursor} lies behind the end of what {found.name} has written")
    if cursor.offset < status.journal_begin:
        raise _gone(text, wanted=cursor.offset, oldest=status.journal_begin)
    after = cursor if cursor.offset == status.journal_begin else cursor.offset
    async with read_events(found.sandbox, found.name, after=after, until=status.journal_end) as rest:
        async for event in rest:
            if event.before != cursor:
                raise ConfigError(f"{text!r} is no place between two events of {found.name}")
            break
    return cursor


async def _oldest(found: Found) -> Cursor:
    status = found.status
    async with read_events(found.sandbox, found.name, after=None, until=status.journal_end) as events:
        async for event in events:
            return event.before
    return Cursor(0, status.journal_begin)


async def _behind(number: int, found: Found) -> Cursor:
    """Find an event by reading from the oldest on."""
    status = found.status
    place: Cursor | None = None
    async with read_events(found.sandbox, found.name, after=None, until=status.journal_end) as events:
        async for event in events:
            if event.seq > number:
                if event.before.seq != number:
                    raise _gone(text=str(number), wanted=number + 1, oldest=event.seq)
                return event.before
            place = event.cursor
    if number and (place is None or place.seq != number):
        raise ConfigError(f"{found.name} has written no event {number} yet")
    return place or Cursor()


def _gone(text: str, *, wanted: int, oldest: int) -> ReplayGapError:
    message = f"what lies behind {text} is not kept any more; use --after oldest"
    return ReplayGapError(message, wanted=wanted, oldest=oldest)

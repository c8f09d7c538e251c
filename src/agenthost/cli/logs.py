"""``agenthost logs``: what an agent has said and done, and what it says and does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import typer

from agenthost.agent.sdk import import_sdk, sdk_codec
from agenthost.cli.configured_providers import AllowOption, ConfigOption, Where, where_said
from agenthost.cli.events import Event, read_events
from agenthost.cli.finding import open_finder
from agenthost.cli.places import AFTER_HELP, AGENT_HELP, check_place, place_of
from agenthost.cli.stopping import run_until_stopped
from agenthost.cli.transcript import Screen, Transcript
from agenthost.errors import SandboxGoneError
from agenthost.wire.codec import dumps


def logs(
    agent: Annotated[str, typer.Argument(help=AGENT_HELP)],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the agent has ended.")] = False,
    after: Annotated[str | None, typer.Option(help=f"{AFTER_HELP} Not given: oldest.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one SDK message a line.")] = False,
    config: ConfigOption = None,
    allow: AllowOption = None,
) -> None:
    """Print what an agent has said and done, all of it that is kept.

    It only reads: the agent and whoever drives it do not notice.
    """
    check_place(after)
    transcript = Transcript(Screen(stderr=as_json))
    where = where_said(config, allow)
    run_until_stopped(
        partial(_logs, where, agent, follow, "oldest" if after is None else after, as_json, transcript),
        ending="",
    )


async def _logs(
    where: Where, name: str, follow: bool, after: str, as_json: bool, transcript: Transcript
) -> None:
    async with open_finder(where) as finder:
        found = await finder.agent(name)
        place = await place_of(after, found)
        show = _write if as_json else _printer(await _decoder(), transcript)
        if place.seq and after == "oldest":
            transcript.note("", f"the first {place.seq} events are not kept any more", "dim")
        until = None if follow else found.status.journal_end
        ended = False
        try:
            async with read_events(found.sandbox, found.name, after=place, until=until) as events:
                async for event in events:
                    show(event)
                    place, ended = event.cursor, event.kind == "end"
        except SandboxGoneError:
            if not ended:
                raise
        if as_json:
            transcript.note("", f"agenthost: to go on from here: --after {place}", "")


async def _decoder() -> Any:
    return sdk_codec(await import_sdk()).decode


def _write(event: Event) -> None:
    """Print a message as it is in the journal, which is how ``run --json`` prints it."""
    if event.kind == "message":
        print(dumps(event.fields().get("message")), flush=True)


def _printer(decode: Callable[[Any], Any], transcript: Transcript) -> Callable[[Event], None]:
    def show(event: Event) -> None:
        try:
            _show(event, event.fields(), decode, transcript)
        except (KeyError, TypeError, ValueError, AttributeError):
            # It was written in the sandbox, where anything may have been.
            transcript.note("", f"event {event.seq} cannot be shown", "red")

    return show


def _show(event: Event, fields: dict[str, Any], decode: Callable[[Any], Any], transcript: Transcript) -> None:
    match event.kind:
        case "message":
            transcript.show(decode(fields["message"]))
        case "request" if fields["what"] == "can_use_tool" and not fields.get("again"):
            transcript.question(fields["tool_name"], decode(fields["input"]))
        case "state" if fields["state"] == "waiting_for_host":
            transcript.note("waits", "for a host, to ask the model for it: see agenthost attach")
        case "end" if fields["error"]:
            error: dict[str, Any] = fields["error"]
            transcript.note("ended", f"{error['type']}: {error['message']}", "bold red")
        case "end":
            transcript.note("ended", "the agent has ended", "dim")
        case _:
            pass

"""``agenthost attach``: take over an agent that another program had started."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import anyio
import typer

from agenthost.agent import AgentRef, Cursor, HostedAgent
from agenthost.cli.configured_providers import AllowOption, ConfigOption, Where, where_said
from agenthost.cli.finding import Finder, Found, open_finder
from agenthost.cli.finishing import CannotFinishError, Finishing
from agenthost.cli.looking import View, look_at
from agenthost.cli.output import message_printer, warnings_to
from agenthost.cli.places import AFTER_HELP, AGENT_HELP, check_place, place_of
from agenthost.cli.steering import Answer, Steering
from agenthost.cli.stopping import run_until_stopped
from agenthost.cli.taken import Taken
from agenthost.cli.transcript import Screen, Transcript
from agenthost.errors import AgentError, GuestLostError, SandboxGoneError, SupersededError
from agenthost.spec import Limits

if TYPE_CHECKING:
    from claude_agent_sdk import Message

_TAKING = 30.0  # seconds that taking an agent over may last; its sandbox has just answered

Outcome = Literal["left", "ended", "finished"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    where: Where
    agent: str
    after: str | None
    finish: bool
    download: Path | None
    as_json: bool


def attach(
    agent: Annotated[str, typer.Argument(help=AGENT_HELP)],
    after: Annotated[
        str | None, typer.Option(help=f"{AFTER_HELP} Not given: the beginning of its newest turn.")
    ] = None,
    finish: Annotated[
        bool,
        typer.Option("--finish", help="Take no prompts; when all have their results, end agent and sandbox."),
    ] = False,
    download: Annotated[
        Path | None,
        typer.Option(
            file_okay=False, help="With --finish: where to put the working directory before the end."
        ),
    ] = None,
    answer: Annotated[
        Answer, typer.Option(help="What to say when it asks whether it may use a tool.")
    ] = Answer.ask,
    as_json: Annotated[bool, typer.Option("--json", help="Print one SDK message a line.")] = False,
    config: ConfigOption = None,
    allow: AllowOption = None,
) -> None:
    """Take an agent over: read it, prompt it, answer it.

    Whoever drove it before is superseded. Each line of stdin is a prompt.
    Ctrl-C interrupts the running turn; Ctrl-C again, or when nothing runs,
    leaves, and so does the end of stdin: the agent runs on.

    With --finish Ctrl-C leaves at once, and the exit code is 1 when the last
    result is an error.

    The key for the model is read from ANTHROPIC_API_KEY.
    """
    if download is not None and not finish:
        raise typer.BadParameter("it needs --finish", param_hint="--download")
    check_place(after)
    request = _Request(
        where=where_said(config, allow),
        agent=agent,
        after=after,
        finish=finish,
        download=download,
        as_json=as_json,
    )
    transcript = Transcript(Screen(stderr=as_json))
    steering = Steering(transcript, answer=answer, finish=finish)
    done = run_until_stopped(
        partial(_attach, request, transcript, steering), ending="", on_interrupt=steering.on_interrupt
    )
    if not done:
        raise typer.Exit(1)


async def _attach(request: _Request, transcript: Transcript, steering: Steering) -> bool:
    """Return whether all went well: without --finish, always."""
    async with open_finder(request.where) as finder:
        found, view, start = await _find(finder, request)
        ref = AgentRef(
            provider=found.seen.info.provider,
            sandbox=found.seen.info.id,
            sandbox_name=found.seen.info.name,
            agent=found.name,
            # Until it is finished the sandbox is not this process's to end, whatever goes wrong here.
            owned=False,
            credentials="host" if found.status.model and view.state != "ended" else "env",
            session_id=view.session_id,
            cursor=start,
        )
        agent = HostedAgent.attach(
            ref,
            options={"can_use_tool": steering.can_use_tool},
            provider=found.seen.provider,  # it has the options that the sandbox was found with
            limits=Limits(start=_TAKING),
        )
        steering.agent = agent
        steering.works = view.busy
        if found.status.driven:
            transcript.note("", "somebody drives it, and is superseded now", "yellow")
        with warnings_to(transcript), anyio.CancelScope(shield=True):
            await agent.connect()  # a signal in between is obeyed behind it, by leaving
        steering.greet()
        taken = Taken(found, view, agent, transcript, again=finder.again)
        finishing = Finishing(found, view, start) if request.finish else None
        show = message_printer(transcript, as_json=request.as_json)
        with warnings_to(transcript):
            try:
                outcome = await _converse(steering, finishing, show)
            except SupersededError:
                await taken.drop()
                raise SupersededError(
                    f"another process drives {found.name} now; this one has left it"
                ) from None
            except (SandboxGoneError, GuestLostError):
                await taken.drop()
                raise
            except (CannotFinishError, OSError):
                await taken.leave()
                raise
            except Exception:
                ended = await taken.has_ended()
                if ended and finishing is not None:
                    await taken.finish(request.download)
                else:
                    await taken.leave(ended=ended)
                raise
            except BaseException:  # stopped by a signal
                await taken.leave()
                raise
            if finishing is not None:
                await taken.finish(request.download)
                return taken.succeeded()
            await taken.leave(ended=outcome == "ended")
            return True


async def _find(finder: Finder, request: _Request) -> tuple[Found, View, Cursor]:
    found = await finder.agent(request.agent)
    view = await look_at(found.sandbox, found.status, find_turn=True)
    if view.state == "starting":
        if found.status.driven:
            raise AgentError(f"{found.name} is being started; try again in a moment")
        raise AgentError(
            f"{found.name} has not been given its options, and only the program that started it has them; "
            f"`agenthost stop {found.name}{finder.again}` ends it"
        )
    place = request.after or (str(found.ref.cursor) if found.ref is not None else None)
    return found, view, view.turn if place is None else await place_of(place, found)


async def _converse(
    steering: Steering, finishing: Finishing | None, show: Callable[[Message], None]
) -> Outcome:
    """Return when the agent has ended, is done, or is to be left."""
    outcomes: list[Outcome] = []
    errors: list[Exception] = []
    async with anyio.create_task_group() as tasks:

        async def run(work: Callable[[], Awaitable[None]], outcome: Outcome | None) -> None:
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - raised below, outside of the group that would wrap it
                errors.append(error)
            else:
                if outcome is None:
                    return
                outcomes.append(outcome)
            tasks.cancel_scope.cancel()

        def nothing(_seq: int) -> None:
            """Nobody waits for what was read."""

        tasks.start_soon(
            run, partial(steering.listen, show, finishing.heard if finishing else nothing), "ended"
        )
        tasks.start_soon(run, steering.interrupts, None)
        if steering.reads:
            tasks.start_soon(run, steering.read, None if finishing else "left")
        if finishing is not None:
            tasks.start_soon(run, finishing.watch, None)
            tasks.start_soon(run, finishing.wait, "finished")
            tasks.start_soon(run, steering.unanswered, None)
    if errors:
        raise errors[0]
    return outcomes[0]

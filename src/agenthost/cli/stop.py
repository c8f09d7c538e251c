"""``agenthost stop``: end agents and their sandboxes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import Annotated

import anyio
import typer

from agenthost.adapter.provider import GuestProvider
from agenthost.cli.configured_providers import AllowOption, ConfigOption, Where, where_said
from agenthost.cli.finding import Finder, Found, Seen, match_sandbox, open_finder, tell_none
from agenthost.cli.stopping import run_until_stopped
from agenthost.cli.transcript import printable
from agenthost.errors import AgentError, AgentHostError

_PATIENCE = 30.0  # seconds that one end may take


def stop(
    agents: Annotated[
        list[str] | None,
        typer.Argument(metavar="AGENT", help="Names or refs, as for logs; or sandboxes."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every agent.")] = False,
    provider: Annotated[
        str | None,
        typer.Option(help="Only this provider's sandboxes; every one that works here if not given."),
    ] = None,
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="End the sandbox, too, where other agents live in it.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --all: do not ask on a terminal.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --all: only print what would end.")
    ] = False,
    config: ConfigOption = None,
    allow: AllowOption = None,
) -> None:
    """End agents, and each sandbox in which no other agent lives.

    What they made and did not bring out is lost. On a terminal, --all asks first. Exits with 1 when one was
    not found or did not end.
    """
    if bool(agents) == everything:
        raise typer.BadParameter("name agents, or say --all, not both", param_hint="AGENT")
    if dry_run and not everything:
        raise typer.BadParameter("it goes with --all", param_hint="--dry-run")
    ending = "what has begun to end ends"
    where = where_said(config, allow, provider)
    only: frozenset[str] | None = None
    if everything and (dry_run or (sys.stdin is not None and sys.stdin.isatty() and not yes)):
        would_end, problems, notices = run_until_stopped(partial(what_would_end, where), ending="")
        for line in (*problems, *notices) if dry_run or not would_end else ():
            _complain(line)
        if would_end or not problems:
            print("\n".join(would_end.values()) or tell_none())
        if problems and (dry_run or not would_end):
            raise typer.Exit(1)
        if dry_run or not would_end:
            return
        typer.confirm("End all of these?", abort=True)
        only = frozenset(would_end)
    names = agents or []
    if not run_until_stopped(partial(stop_named, names, where, whole=sandbox, only=only), ending=ending):
        raise typer.Exit(1)


async def what_would_end(where: Where | None = None) -> tuple[dict[str, str], list[str], list[str]]:
    """Return a line by the id of each sandbox that ``--all`` ends, what could not be asked, and notices."""
    async with open_finder(where) as finder:
        seen = await finder.sandboxes()
        lines = {
            one.info.id: printable(
                f"would end {', '.join(agent.agent for agent in one.agents)} and {one.title}"
            )
            for one in seen
            if one.agents
        }
        problems = [_unanswered(finder, one) for one in seen if one.problem]
        return lines, [*problems, *finder.problems()], finder.notices()


async def stop_named(
    names: Sequence[str], where: Where | None = None, *, whole: bool, only: frozenset[str] | None = None
) -> bool:
    """End what has these names, or everything if there are none; return whether all of it ended.

    With ``only``, everything means the sandboxes with these ids.
    """
    async with open_finder(where) as finder:
        if not names:
            return await _stop_all(finder, only)
        good = True
        for name in names:
            try:
                with anyio.fail_after(_PATIENCE):
                    print(printable(await _stop_one(finder, name, whole)), flush=True)
            except TimeoutError:
                good = _complain(f"{name}: it did not end within {_PATIENCE:g} s")
            except AgentHostError as error:
                good = _complain(str(error))
        return good


async def _stop_all(finder: Finder, only: frozenset[str] | None) -> bool:
    good = True
    seen = await finder.sandboxes()
    for one in seen:
        if one.problem:
            good = _complain(_unanswered(finder, one))
        elif one.agents and (only is None or one.info.id in only):
            print(printable(await _end_sandbox(one)), flush=True)
    for problem in finder.problems():
        good = _complain(problem)
    for notice in finder.notices():
        _complain(notice)
    if good and not any(one.agents for one in seen):
        print(tell_none())
    return good


async def _stop_one(finder: Finder, name: str, whole: bool) -> str:
    """End what a name names, and tell what that was."""
    if name.lstrip().startswith("{"):
        return await _end(await finder.agent(name), whole)
    seen = await finder.sandboxes(only=name)
    there = match_sandbox(name, seen)
    if there is not None and (whole or not (there.agents or there.problem)):
        return await _end_sandbox(there)
    if there is not None and there.problem:
        raise AgentError(_unanswered(finder, there))
    return await _end(finder.match(name, seen), whole)


async def _end(found: Found, whole: bool) -> str:
    others = [one for one in await found.sandbox.agents() if one.agent != found.name]
    if whole or not others:
        return await _end_sandbox(found.seen)
    async with found.sandbox.drive_agent(found.name, after=None):
        pass  # whoever is the driver ends it by leaving
    count = "1 other agent lives" if len(others) == 1 else f"{len(others)} other agents live"
    return f"ended {found.name}; {count} in {found.seen.title}, which runs on"


async def _end_sandbox(seen: Seen) -> str:
    if seen.sandbox is not None:
        await seen.sandbox.terminate()
    elif isinstance(seen.provider, GuestProvider):
        # Its guest does not answer; its provider does.
        await (await seen.provider.reach(seen.info.id)).terminate()
    else:
        await (await seen.provider.get(seen.info.id)).terminate()
    names = ", ".join(one.agent for one in seen.agents)
    return f"ended {names} and {seen.title}" if names else f"ended {seen.title}"


def _unanswered(finder: Finder, seen: Seen) -> str:
    return f"{seen.title} cannot be asked for its agents: {seen.problem}. {_by_force(finder, seen)}"


def _by_force(finder: Finder, seen: Seen) -> str:
    return f"`agenthost stop --sandbox {seen.info.name}{finder.again}` ends it all the same"


def _complain(text: str) -> bool:
    print(f"agenthost: {printable(text)}", file=sys.stderr)
    return False

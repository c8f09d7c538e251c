"""Run the kits and one agent at a provider's real service, for at most so many dollars. See scripts/live."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import anyio
from claude_agent_sdk import ClaudeAgentOptions, ResultMessage

from agenthost import HostedAgent, SandboxSpec, open_provider, reap
from agenthost.adapter.provider import GuestProvider
from agenthost.cli.configured_providers import Where
from agenthost.cli.doctor import look_at_one, show_check
from agenthost.cli.transcript import Screen
from agenthost.errors import AgentHostError
from agenthost.owners import OWNER_LABEL, owner_id
from agenthost.sandbox import SandboxInfo, SandboxProvider
from agenthost.testing import ScriptedModel, Text

ROOT = Path(__file__).resolve().parent.parent
ENDING = 60.0  # seconds that the end of one sandbox may take
LIFETIME = 900.0  # seconds that a sandbox of tests/live lives at most
AT_ONCE = 4  # sandboxes that the kits have at one time, at most
LEAST = 15.0  # minutes in which the kits get somewhere
MOST = 60.0  # minutes after which the kits have ended
TOKENS_USD = 0.10  # what the one agent may spend on the real model, where there is a key
PROMPT = "Run `uname -sr` and answer with what it prints, and nothing else."


def affordable_minutes(max_usd: float, per_hour: float) -> float:
    """Return for how many minutes sandboxes may be made; the last of them live on for 15 minutes."""
    hours = (max_usd - TOKENS_USD) / (per_hour * AT_ONCE)
    return min(MOST, hours * 60 - LIFETIME / 60)


def least_usd(per_hour: float) -> float:
    """Return the budget below which the kits get nowhere."""
    return per_hour * AT_ONCE * (LEAST + LIFETIME / 60) / 60 + TOKENS_USD


async def one_agent(name: str) -> str:
    """Run one agent, and return its answer: of the real model where there is a key, else of a script."""
    spec = SandboxSpec(max_lifetime=LIFETIME)
    if os.environ.get("ANTHROPIC_API_KEY"):
        return await _answer(name, spec, ClaudeAgentOptions(max_turns=4, max_budget_usd=TOKENS_USD))
    async with ScriptedModel([Text("the answer of a script: ANTHROPIC_API_KEY is not set")]) as model:
        env = {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "of the script"}
        return await _answer(name, spec, ClaudeAgentOptions(max_turns=4, env=env))


async def _answer(name: str, spec: SandboxSpec, options: ClaudeAgentOptions) -> str:
    async with HostedAgent(options=options, provider=name, spec=spec) as agent:
        await agent.query(PROMPT)
        async for message in agent.receive_response():
            if isinstance(message, ResultMessage):
                if message.is_error:
                    raise AgentHostError(f"the agent failed: {message.result}")
                return message.result or ""
    raise AgentHostError("the agent ended without a result")


async def leave_nothing(name: str) -> list[str]:
    """End the sandboxes of this host and those of hosts that are gone; return what could not be ended."""
    left: list[str] = []
    async with open_provider(name) as provider:
        for info in [info async for info in provider.list(labels={OWNER_LABEL: owner_id()})]:
            try:
                await end(provider, info)
            except (AgentHostError, OSError) as error:
                left.append(f"{info.id}: {error}")
        reaped = await reap(provider)
    return [*left, *(f"{one.info.id}: {one.reason}" for one in reaped if one.outcome == "failed")]


async def end(provider: SandboxProvider, info: SandboxInfo) -> None:
    """End one sandbox, without a link where that is possible: its guest may be gone."""
    if info.state != "ended":
        reached = provider.reach if isinstance(provider, GuestProvider) else provider.get
        with anyio.fail_after(ENDING):
            await (await reached(info.id)).terminate()


def run_kits(name: str, minutes: float, for_pytest: list[str]) -> int:
    """Run tests/live and return pytest's exit code.

    Ctrl-C reaches pytest, too, which ends its sandboxes then: that is waited for.
    """
    argv = [sys.executable, "-m", "pytest", "-n", "0", "--live", name, "--live-minutes", f"{minutes:.1f}"]
    with subprocess.Popen([*argv, "tests/live", *for_pytest], cwd=ROOT) as kits:
        try:
            return kits.wait()
        except KeyboardInterrupt:
            print("scripts/live: waits until the kits have ended their sandboxes", file=sys.stderr)
            kits.wait()
            raise


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return what is before and what is behind ``--``."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], arguments[at + 1 :]


def main() -> int:
    """Return 0 when everything passed, 1 when not, 2 when nothing could be begun."""
    parser = argparse.ArgumentParser(prog="scripts/live", description=__doc__)
    parser.add_argument("name", help="the provider")
    parser.add_argument("--max-usd", type=float, required=True, help="what the run may cost, tokens included")
    parser.add_argument("--usd-per-hour", type=float, help="the price of one sandbox, where you know better")
    parser.add_argument("--yes", action="store_true", help="run; without it, print the plan and make nothing")
    parser.epilog = "Arguments behind -- go to pytest: -k NAME, for instance."
    own, for_pytest = _split(sys.argv[1:])
    said = parser.parse_args(own)
    found = anyio.run(
        partial(look_at_one, Where(named=(said.name,)), said.name, partial(show_check, Screen()))
    )
    if any(check.state == "missing" for check in found):
        return 2
    facts = next(check.facts for check in found if check.name == "first run")
    per_hour = said.usd_per_hour or float(facts.get("usd_per_hour", 0))
    if not per_hour:
        print(
            f"scripts/live: the price of {said.name} is not known here: give --usd-per-hour", file=sys.stderr
        )
        return 2
    minutes = affordable_minutes(said.max_usd, per_hour)
    if minutes < LEAST:
        need = f"at least --max-usd {least_usd(per_hour):.2f}"
        print(f"scripts/live: the kits need {LEAST:g} minutes, so {need}", file=sys.stderr)
        return 2
    most = per_hour * AT_ONCE * (minutes + LIFETIME / 60) / 60 + TOKENS_USD
    print(
        f"\nBoth kits for {minutes:.0f} minutes at most, up to {AT_ONCE} sandboxes at once, and one agent: "
        f"${most:.2f} at most, likely much less. A sandbox ends by itself after {LIFETIME / 60:g} minutes."
    )
    if not said.yes:
        print("Nothing was made. Add --yes to run this.")
        return 0
    code = 0
    try:
        code = run_kits(said.name, minutes, for_pytest)
        print(f"\nOne agent at {said.name}: {anyio.run(one_agent, said.name)}")
    except KeyboardInterrupt:
        code = 1
    except AgentHostError as error:
        print(f"scripts/live: the agent: {error}", file=sys.stderr)
        code = code or 1
    finally:
        left = anyio.run(leave_nothing, said.name)
    for line in left:
        print(f"scripts/live: could not be ended: {line}", file=sys.stderr)
    print("Nothing is left." if not left else "See `agenthost reap`.")
    return 1 if code or left else 0


if __name__ == "__main__":
    sys.exit(main())

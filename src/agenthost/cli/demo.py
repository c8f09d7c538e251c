"""``agenthost demo``: an agent mends a program in an isolated sandbox, with no account and no key."""

from __future__ import annotations

import difflib
import os
import secrets
from collections.abc import Sequence
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path

import typer
from rich.console import Console
from rich.text import Text

from agenthost.agent import HostedAgent
from agenthost.cli.demo_script import MENDED_FILE, PROMPT, TEST_COMMAND, demo_script
from agenthost.cli.probes import Finding, look_from_inside
from agenthost.cli.stopping import run_until_stopped
from agenthost.cli.transcript import Screen, Transcript, printable
from agenthost.registry import open_provider
from agenthost.sandbox import Sandbox
from agenthost.spec import SandboxSpec
from agenthost.testing import ScriptedModel

_TEST_SECONDS = 60.0
# Seconds; it ends then even when this process is killed.
_LIFETIME = 600.0
_LABEL = "agenthost-demo"
_TITLES = {
    "key": "the key is not in the sandbox",
    "network": "there is no network",
    "host files": "none of your files is there",
}
# What is of the host and is there all the same.
_VISIBLE = "the system's directories (/usr ...), Python and the packages beside the SDK, read-only"


def demo() -> None:
    """Watch an agent mend a program in a sandbox: no account, no key.

    The Claude Agent SDK, the claude binary, its tools and the sandbox are real; only the model is played by
    a script, on this machine. Exits with 1 unless the program is mended and the sandbox is tight.
    """
    console = Screen()
    transcript = Transcript(console)
    with transcript.waiting():
        done = run_until_stopped(partial(_demo, console, transcript))
    if not done:
        raise typer.Exit(1)


async def _demo(console: Console, transcript: Transcript) -> bool:
    console.print("An agent mends a program in an isolated sandbox.", style="bold")
    console.print("A script plays the model, on this machine; everything else is real.\n")
    # The host adds it to what the agent asks the model; the sandbox must never see it.
    key = f"sk-ant-demo-{secrets.token_hex(24)}"
    async with ScriptedModel(api_key=key, strict=False) as model:
        with as_file(files("agenthost.cli").joinpath("demo_project")) as project:
            mended, findings = await _play(model, key, project, console, transcript)
        for error in model.errors:
            transcript.step(f"the script did not fit: {error}")
    left = await _sandboxes_of(os.getpid())
    console.print()
    return _conclude(console, mended, findings, left, len(model.turns))


async def _play(
    model: ScriptedModel, key: str, project: Path, console: Console, transcript: Transcript
) -> tuple[bool, Sequence[Finding]]:
    # A dict and not ClaudeAgentOptions: so the SDK is imported while the sandbox starts.
    options = {
        "env": {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": key},
        "allowed_tools": ["Read", "Edit", "Bash"],
        "max_turns": 10,
    }
    spec = SandboxSpec(labels={_LABEL: str(os.getpid())}, max_lifetime=_LIFETIME)
    agent = HostedAgent(
        options, provider="local", spec=spec, workspace=project, on_progress=transcript.progress
    )
    async with agent:
        sandbox = agent.sandbox
        model.add(*demo_script(sandbox.workdir))
        if await _tests_pass(sandbox, transcript, "before"):
            transcript.step("the program was not broken")
            return False, []
        transcript.prompt(PROMPT)
        await agent.query(PROMPT)
        async for message in agent.receive_response():
            transcript.show(message)
        mended = await _tests_pass(sandbox, transcript, "after")
        _show_difference(
            console,
            (project / MENDED_FILE).read_text("utf-8"),
            (await sandbox.read_file(MENDED_FILE)).decode(errors="replace"),
        )
        transcript.step("looking around from inside, while the agent is still there")
        port = int(model.url.rpartition(":")[2])
        return mended, await look_from_inside(sandbox, key, port)


async def _sandboxes_of(pid: int) -> list[str]:
    """Ask the provider which sandboxes of this demo there still are."""
    async with open_provider("local") as provider:
        return [info.name async for info in provider.list({_LABEL: str(pid)})]


async def _tests_pass(sandbox: Sandbox, transcript: Transcript, when: str) -> bool:
    """Run the tests in a process of its own and print the exit code."""
    done = await sandbox.exec(TEST_COMMAND, timeout=_TEST_SECONDS)
    output = (done.stdout + done.stderr).decode(errors="replace")
    last = output.strip().rpartition("\n")[2]
    transcript.step(f"{when}: {' '.join(TEST_COMMAND)} exits with {done.exit_code} ({last})")
    return done.exit_code == 0


def _show_difference(console: Console, before: str, after: str) -> None:
    styles = {"+": "green", "-": "red", "@": "cyan"}
    lines = difflib.unified_diff(
        before.splitlines(),
        after.splitlines(),
        f"before/{MENDED_FILE}",
        f"after/{MENDED_FILE}",
        "",
        "",
        1,
        "",
    )
    for line in lines:
        console.print(Text(" " * 9 + printable(line), style=styles.get(line[0], "dim")), soft_wrap=True)


def _conclude(
    console: Console, mended: bool, findings: Sequence[Finding], left: Sequence[str], model_requests: int
) -> bool:
    for finding in findings:
        mark = Text("ok   ", style="green") if finding.good else Text("FAIL ", style="bold red")
        console.print(mark + Text(_TITLES[finding.name], style="bold"))
        console.print(f"     looked: {finding.looked}", style="dim", soft_wrap=True)
        control = finding.control_text if finding.control else f"FAILED: must hold: {finding.control_text}"
        console.print(f"     control: {control}", style="dim" if finding.control else "red", soft_wrap=True)
        if finding.name == "host files":
            console.print(f"     visible: {_VISIBLE}", style="dim", soft_wrap=True)
        for where in finding.found:
            console.print(Text(f"     found: {printable(where)}", style="bold red"), soft_wrap=True)
    console.print()
    tight = len(findings) == len(_TITLES) and all(finding.good for finding in findings)
    failures = {
        "the program is not mended": not mended,
        "the sandbox is not tight": not tight,
        f"the sandbox is still there: {', '.join(left)}": bool(left),
    }
    if any(failures.values()):
        console.print(f"The demo failed: {'; '.join(what for what, failed in failures.items() if failed)}.")
        console.print("`agenthost doctor` says what works on this machine.")
        return False
    console.print("The program is mended, and the sandbox is gone.", style="bold")
    console.print(f"The key went with {model_requests} requests to the model, from the host alone.\n")
    console.print("Next, with a key of yours in ANTHROPIC_API_KEY:")
    console.print('  agenthost run "Fix the failing test" --workspace ./app --download ./fixed')
    return True

"""``agenthost demo``: an agent mends a program in an isolated sandbox, with no account and no key."""

from __future__ import annotations

import difflib
import secrets
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path

import typer
from rich.console import Console
from rich.text import Text

from agenthost.cli.demo_script import MENDED_FILE, PROMPT, TEST_COMMAND, demo_script
from agenthost.cli.probes import Finding, look_from_inside
from agenthost.cli.stopping import run_until_stopped
from agenthost.cli.transcript import Transcript, printable
from agenthost.sandbox import Sandbox
from agenthost.testing import ScriptedModel

_TEST_SECONDS = 60.0
_TITLES = {
    "key": "the key is not in the sandbox",
    "network": "there is no network",
    "host files": "no file of the host is there",
}


def demo() -> None:
    """Watch an agent mend a program in a sandbox: no account, no key.

    The Claude Agent SDK, the claude binary, its tools and the sandbox are real; only the model is played by
    a script, on this machine. Exits with 1 unless the program is mended and the sandbox is tight.
    """
    if not run_until_stopped(_demo):
        raise typer.Exit(1)


async def _demo() -> bool:
    console = Console(highlight=False)
    console.print(
        "An agent mends a program in an isolated sandbox. A script plays the model, all else is real.\n"
    )
    transcript = Transcript(console)
    # The host adds it to what the agent asks the model; the sandbox must never see it.
    key = f"sk-ant-demo-{secrets.token_hex(24)}"
    async with ScriptedModel(api_key=key, strict=False) as model:
        with as_file(files("agenthost.cli").joinpath("demo_project")) as project:
            mended, findings = await _play(model, key, project, console, transcript)
        for error in model.errors:
            transcript.step(f"the script did not fit: {error}")
    console.print()
    return _conclude(console, mended, findings, len(model.turns))


async def _play(
    model: ScriptedModel, key: str, project: Path, console: Console, transcript: Transcript
) -> tuple[bool, Sequence[Finding]]:
    # Both are slow to import: after the first line is on the screen.
    from claude_agent_sdk import ClaudeAgentOptions

    from agenthost import HostedAgent

    options = ClaudeAgentOptions(
        env={"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": key},
        allowed_tools=["Read", "Edit", "Bash"],
        max_turns=10,
    )
    async with HostedAgent(
        options=options, provider="local", workspace=project, on_progress=transcript.progress
    ) as agent:
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


def _conclude(console: Console, mended: bool, findings: Sequence[Finding], model_requests: int) -> bool:
    for finding in findings:
        mark = Text("ok   ", style="green") if finding.good else Text("FAIL ", style="bold red")
        console.print(mark + Text(_TITLES[finding.name], style="bold"))
        console.print(f"     looked: {finding.looked}", style="dim", soft_wrap=True)
        control = (
            finding.control_text if finding.control else f"FAILED: this must hold: {finding.control_text}"
        )
        console.print(f"     control: {control}", style="dim" if finding.control else "red", soft_wrap=True)
        for where in finding.found:
            console.print(Text(f"     found: {printable(where)}", style="bold red"), soft_wrap=True)
    tight = len(findings) == len(_TITLES) and all(finding.good for finding in findings)
    console.print()
    if mended and tight:
        console.print(
            f"The program is mended, and the sandbox is gone. The key went with {model_requests} requests"
            " to the model, from the host alone.\n"
            "Next: export ANTHROPIC_API_KEY=... and\n"
            '  agenthost run "Fix the failing test" --workspace ./app --download ./fixed',
            soft_wrap=True,
        )
        return True
    console.print(
        "The demo failed: " + ("the sandbox is not tight." if mended else "the program is not mended.")
    )
    console.print("`agenthost doctor` says what works on this machine.")
    return False

"""``agenthost run``: one prompt to an agent in a sandbox."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from agenthost.agent import HostedAgent, message_to_json
from agenthost.cli.stopping import run_until_stopped
from agenthost.cli.transcript import Transcript
from agenthost.errors import AgentError
from agenthost.registry import open_provider, provider_names

if TYPE_CHECKING:
    from claude_agent_sdk import Message, PermissionMode

    from agenthost.sandbox import Isolation


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    prompt: str
    provider: str
    model: str | None
    workspace: Path | None
    download: Path | None
    max_turns: int | None
    as_json: bool


def run(
    prompt: Annotated[str, typer.Argument(help="What the agent shall do; - reads it from stdin.")],
    provider: Annotated[
        str, typer.Option(help=f"Where the sandbox is made: {', '.join(provider_names())}.")
    ] = "local",
    model: Annotated[str | None, typer.Option(help="The model's name or alias.")] = None,
    workspace: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="A directory to upload for the agent to work in."),
    ] = None,
    download: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Where to put what is in the working directory afterwards."),
    ] = None,
    max_turns: Annotated[int | None, typer.Option(min=1, help="Stop after this many turns.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one SDK message a line.")] = False,
) -> None:
    """Run a prompt with an agent in a fresh sandbox, which ends with it.

    The Anthropic key is read from ANTHROPIC_API_KEY and does not enter the sandbox. Exits with 1 when the
    agent reports an error.
    """
    request = _Request(
        prompt=_read_stdin() if prompt == "-" else prompt,
        provider=provider,
        model=model,
        workspace=workspace,
        download=download,
        max_turns=max_turns,
        as_json=as_json,
    )
    if not request.prompt.strip():
        raise typer.BadParameter("it is empty", param_hint="PROMPT")
    transcript = Transcript(Console(highlight=False, stderr=as_json))
    with transcript.waiting():
        done = run_until_stopped(partial(_run, request, transcript))
    if not done:
        raise typer.Exit(1)


async def _run(request: _Request, transcript: Transcript) -> bool:
    """Return whether the agent ended its turn without an error."""
    async with open_provider(request.provider) as provider:
        # A dict and not ClaudeAgentOptions: so the SDK is imported while the sandbox starts.
        options = {
            "model": request.model,
            "max_turns": request.max_turns,
            "system_prompt": {"type": "preset", "preset": "claude_code"},
            "permission_mode": _permission_mode(provider.capabilities.isolation, transcript),
        }
        agent = HostedAgent(
            options=options, provider=provider, workspace=request.workspace, on_progress=transcript.progress
        )
        async with agent:
            show = _json_writer(transcript) if request.as_json else transcript.show
            if not request.as_json:
                transcript.prompt(request.prompt)
            await agent.query(request.prompt)
            async for message in agent.receive_response():
                show(message)
            if request.download is not None:
                await _download(agent, request.download)
                transcript.step(f"downloaded to {request.download}")
    return transcript.result is not None and not transcript.result.is_error


async def _download(agent: HostedAgent, target: Path) -> None:
    try:
        await agent.download(target)
    except OSError as error:
        raise AgentError(
            f"what the agent made cannot be written to {str(target)!r}: {error}. "
            "It is gone with the sandbox; run again with a --download that can be written"
        ) from error


def _permission_mode(isolation: Isolation, transcript: Transcript) -> PermissionMode:
    """Let the agent do what it wants where it can harm nothing but its sandbox."""
    if isolation != "none":
        return "bypassPermissions"
    transcript.step("nothing is isolated here: commands that need a permission are refused")
    return "acceptEdits"


def _json_writer(transcript: Transcript) -> Callable[[Message], None]:
    import claude_agent_sdk

    def write(message: Message) -> None:
        print(message_to_json(message), flush=True)
        if isinstance(message, claude_agent_sdk.ResultMessage):
            transcript.result = message

    return write


def _read_stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"stdin is not UTF-8: {error}", param_hint="PROMPT") from None

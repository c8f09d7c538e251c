"""``agenthost run``: one prompt to an agent in a sandbox."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from agenthost.agent import HostedAgent
from agenthost.cli.allow import Allow
from agenthost.cli.configured_providers import flags_again
from agenthost.cli.output import download, message_printer
from agenthost.cli.ps import tell_time
from agenthost.cli.run_request import KeyIn, Network, Request
from agenthost.cli.stopping import run_until_stopped
from agenthost.cli.transcript import Screen, Transcript
from agenthost.registry import provider_names

_GONE = "It is gone with the sandbox; run again with a --download that can be written"


def run(
    prompt: Annotated[str, typer.Argument(help="What the agent shall do; - reads it from stdin.")],
    provider: Annotated[
        str | None,
        typer.Option(
            help=f"Where the sandbox is made: {', '.join(provider_names())}. Not given: what the config "
            "says, else local."
        ),
    ] = None,
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
    detach: Annotated[
        bool, typer.Option("--detach", help="Leave the agent running, and print the JSON of its ref.")
    ] = False,
    credentials: Annotated[
        KeyIn | None,
        typer.Option(
            help="Where the key is: on this host, which is the default, or in the sandbox (env), where the "
            "agent can read it."
        ),
    ] = None,
    network: Annotated[
        Network | None, typer.Option(help="The sandbox's network. Not given: the provider's default.")
    ] = None,
    lifetime: Annotated[
        float | None, typer.Option(min=1, help="Seconds after which the sandbox ends. Not given: an hour.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="Settings. Not given: AGENTHOST_CONFIG, else ./agenthost.toml if it is there."),
    ] = None,
    allow: Annotated[
        list[Allow] | None,
        typer.Option(help="Let the config do what it may not do alone; repeat it for more than one."),
    ] = None,
) -> None:
    """Run a prompt with an agent in a fresh sandbox, which ends with it.

    The key is read from ANTHROPIC_API_KEY and does not enter the sandbox.
    Exits with 1 when the agent reports an error.

    Options win over the settings of a config. What in its file weakens the
    isolation, or leads a credential elsewhere, counts only when an option says
    it, too.

    With --detach agent and sandbox run on. While the key is on this host
    alone, the first request to the model waits until somebody attaches; with
    --credentials env and a network the agent works on by itself.
    """
    request = Request(
        prompt=_read_stdin() if prompt == "-" else prompt,
        config=None,  # read when the rest makes sense
        allowed=allow or [],
        provider=provider,
        model=model,
        workspace=workspace,
        download=download,
        max_turns=max_turns,
        as_json=as_json,
        detach=detach,
        credentials=credentials,
        network=network,
        lifetime=lifetime,
    )
    if not request.prompt.strip():
        raise typer.BadParameter("it is empty", param_hint="PROMPT")
    if detach and download is not None:
        hint = "there is nothing to download yet; agenthost attach --finish --download does it later"
        raise typer.BadParameter(hint, param_hint="--detach")
    request = replace(
        request,
        config=request.find_config(config),
        again=flags_again(config, allowed=Allow.provider_options in request.allowed),
    )
    transcript = Transcript(Screen(stderr=as_json or detach))
    with transcript.waiting():
        done = run_until_stopped(partial(_run, request, transcript))
    if not done:
        raise typer.Exit(1)


async def _run(request: Request, transcript: Transcript) -> bool:
    """Return whether the agent ended its turn without an error."""
    async with request.open_provider() as provider:
        agent = HostedAgent(
            provider=provider,
            workspace=request.workspace,
            on_progress=transcript.progress,
            **request.arguments(provider, transcript),
        )
        async with agent:
            show = message_printer(transcript, as_json=request.as_json)
            if not request.as_json:
                transcript.prompt(request.prompt)
            await agent.query(request.prompt)
            if request.detach:
                await _detach(agent, transcript, request.again)
                return True
            async for message in agent.receive_response():
                show(message)
            if request.download is not None:
                await download(agent, request.download, _GONE)
                transcript.step(f"downloaded to {request.download}")
    return transcript.result is not None and not transcript.result.is_error


async def _detach(agent: HostedAgent, transcript: Transcript, again: str) -> None:
    info = await agent.sandbox.info()
    ref = await agent.detach()
    print(ref.to_json(), flush=True)
    ends = "" if info.expires_at is None else f", for {tell_time(info.expires_at - time.time())} at most"
    transcript.note("", f"{ref.agent} runs in sandbox {info.name}{ends}")
    if ref.credentials == "host":
        transcript.note("", "what it asks the model waits until somebody attaches")
    transcript.note("", f"watch it: agenthost logs -f {ref.agent}{again}")
    transcript.note("", f"take it over: agenthost attach {ref.agent}{again}")
    transcript.note("", f"end it: agenthost stop {ref.agent}{again}")


def _read_stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"stdin is not UTF-8: {error}", param_hint="PROMPT") from None

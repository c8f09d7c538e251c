"""``agenthost run``: one prompt to an agent in a sandbox."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agenthost.agent import HostedAgent, SafeDefaults
from agenthost.agent.plan import DEFAULT_PROVIDER
from agenthost.cli.allow import Allow, may_have_config
from agenthost.cli.output import download, message_printer
from agenthost.cli.ps import tell_time
from agenthost.cli.stopping import run_until_stopped
from agenthost.cli.transcript import Screen, Transcript
from agenthost.registry import open_provider, provider_names
from agenthost.spec import NetworkPolicy, SandboxSpec

if TYPE_CHECKING:
    from claude_agent_sdk import PermissionMode

    from agenthost.agent.credentials import Credentials
    from agenthost.config import Config
    from agenthost.sandbox import Isolation, SandboxProvider

_GONE = "It is gone with the sandbox; run again with a --download that can be written"


class _KeyIn(Enum):
    host = "host"
    env = "env"
    provider = "provider"
    gateway = "gateway"


class _Network(Enum):
    open = "open"
    none = "none"


_NETWORKS = {_Network.open: NetworkPolicy.open(), _Network.none: NetworkPolicy.none()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    prompt: str
    config: Config | None
    allowed: list[Allow]
    provider: str | None
    model: str | None
    workspace: Path | None
    download: Path | None
    max_turns: int | None
    as_json: bool
    detach: bool
    credentials: _KeyIn | None
    network: _Network | None
    lifetime: float | None


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
        _KeyIn | None,
        typer.Option(
            help="Where the key is: on this host, which is the default, or in the sandbox (env), where the "
            "agent can read it."
        ),
    ] = None,
    network: Annotated[
        _Network | None, typer.Option(help="The sandbox's network. Not given: the provider's default.")
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
    request = _Request(
        prompt=_read_stdin() if prompt == "-" else prompt,
        config=None,
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
    request = replace(request, config=_config(request, config))
    transcript = Transcript(Screen(stderr=as_json or detach))
    with transcript.waiting():
        done = run_until_stopped(partial(_run, request, transcript))
    if not done:
        raise typer.Exit(1)


async def _run(request: _Request, transcript: Transcript) -> bool:
    """Return whether the agent ended its turn without an error."""
    config = request.config
    async with _open(request) as provider:
        capabilities = provider.capabilities
        defaults = SafeDefaults()
        if config is not None:
            from agenthost.agent.configured import safe_defaults
            from agenthost.cli.run_config import check_provider, require

            given = request.network is not None
            doubts = check_provider(config, capabilities, provider=request.provider, network=given)
            require(config, doubts, request.allowed)
            defaults = safe_defaults(config)
        spec = SandboxSpec() if config is None else config.spec
        if request.network is not None:
            spec = replace(spec, network=_NETWORKS[request.network])
        if request.lifetime is not None:
            spec = replace(spec, max_lifetime=request.lifetime)
        credentials = _credentials(request)
        if credentials == "env":
            if spec.network is None and capabilities.default_network == "none":
                hint = f"it needs --network open: a sandbox on {provider.name} reaches no model by itself"
                raise typer.BadParameter(hint, param_hint="--credentials env")
            transcript.step("the key is put into the sandbox, where the agent can read it")
        agent = HostedAgent(
            options=_options(request, capabilities.isolation, transcript),
            provider=provider,
            spec=spec,
            workspace=request.workspace,
            credentials=credentials,
            limits=None if config is None else config.limits,
            defaults=defaults,
            on_progress=transcript.progress,
        )
        async with agent:
            show = message_printer(transcript, as_json=request.as_json)
            if not request.as_json:
                transcript.prompt(request.prompt)
            await agent.query(request.prompt)
            if request.detach:
                await _detach(agent, transcript)
                return True
            async for message in agent.receive_response():
                show(message)
            if request.download is not None:
                await download(agent, request.download, _GONE)
                transcript.step(f"downloaded to {request.download}")
    return transcript.result is not None and not transcript.result.is_error


async def _detach(agent: HostedAgent, transcript: Transcript) -> None:
    info = await agent.sandbox.info()
    ref = await agent.detach()
    print(ref.to_json(), flush=True)
    ends = "" if info.expires_at is None else f", for {tell_time(info.expires_at - time.time())} at most"
    transcript.note("", f"{ref.agent} runs in sandbox {info.name}{ends}")
    if ref.credentials == "host":
        transcript.note("", "what it asks the model waits until somebody attaches")
    transcript.note("", f"watch it: agenthost logs -f {ref.agent}")
    transcript.note("", f"take it over: agenthost attach {ref.agent}")
    transcript.note("", f"end it: agenthost stop {ref.agent}")


def _config(request: _Request, path: Path | None) -> Config | None:
    if not may_have_config(path):
        return None
    from agenthost.cli.run_config import check_file, find_config, require

    config = find_config(path)
    if config is not None:
        credentials = None if request.credentials is None else request.credentials.value
        network = request.network is not None
        doubts = check_file(config, provider=request.provider, network=network, credentials=credentials)
        require(config, doubts, request.allowed)
    return config


def _open(request: _Request) -> AbstractAsyncContextManager[SandboxProvider]:
    config = request.config
    if config is None:
        return open_provider(request.provider or DEFAULT_PROVIDER)
    name = config.provider if request.provider is None else config.named(request.provider)
    return open_provider(name) if config.limits is None else open_provider(name, limits=config.limits)


def _credentials(request: _Request) -> Credentials:
    if request.credentials is not None:
        return request.credentials.value
    said = None if request.config is None else request.config.credentials
    return said or "host"


def _options(request: _Request, isolation: Isolation, transcript: Transcript) -> dict[str, Any]:
    # A dict and not ClaudeAgentOptions: so the SDK is imported while the sandbox starts.
    options: dict[str, Any] = {"model": request.model, "max_turns": request.max_turns}
    if request.config is not None:
        from agenthost.agent.configured import options_of

        options = options_of(request.config, options)
    options.setdefault("system_prompt", {"type": "preset", "preset": "claude_code"})
    if "permission_mode" not in options:
        options["permission_mode"] = _permission_mode(isolation, transcript)
    return options


def _permission_mode(isolation: Isolation, transcript: Transcript) -> PermissionMode:
    """Let the agent do what it wants where it can harm nothing but its sandbox."""
    if isolation != "none":
        return "bypassPermissions"
    transcript.step("nothing is isolated here: commands that need a permission are refused")
    return "acceptEdits"


def _read_stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"stdin is not UTF-8: {error}", param_hint="PROMPT") from None

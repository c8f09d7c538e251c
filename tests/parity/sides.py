"""The two sides of a scenario: the bare SDK on this machine, and agenthost with a sandbox."""

from __future__ import annotations

import gc
import os
import re
import shutil
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.to_thread
import claude_agent_sdk
from claude_agent_sdk import CanUseToolShadowedWarning, ClaudeAgentOptions, ClaudeSDKClient, Message
from parity.compare import plain
from parity.scenario import LIMIT, OF_THE_TESTS, PLAIN, Client, Record, Run, Scenario, Side

import agenthost
from agenthost import HostedAgent, SandboxSpec, open_provider
from agenthost.sandbox import Sandbox
from agenthost.testing import ModelRequest, ScriptedModel

KEY = "sk-ant-of-the-host"

# What no scenario is about: nothing but the agent's own questions to the model.
_QUIET = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1"}

_LOOPBACK = re.compile(r"\b127\.0\.0\.1:\d+")


async def play(scenario: Scenario, directory: Path, provider: str, *, bare: Any = None) -> tuple[Any, Any]:
    """Return what both sides showed, as plain trees. They run at the same time.

    ``bare`` is what the bare side showed before, which is then not played again.
    """
    shown: dict[Side, Any] = {"bare": bare}

    async def play_the_bare_side() -> None:
        shown["bare"] = await play_bare(scenario, directory)

    async def hosted() -> None:
        shown["hosted"] = await play_hosted(scenario, directory, provider)

    with _heard_warnings():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hosted)
            if bare is None:
                tasks.start_soon(play_the_bare_side)
    if any(name.startswith("error:") for name in scenario.covers):
        # The SDK leaves the pipes of a CLI that died to the garbage collector, which would say so later.
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            gc.collect()
    return shown["bare"], shown["hosted"]


async def play_bare(scenario: Scenario, directory: Path) -> Any:
    """Return what the bare SDK shows."""
    # As long as the paths of the sandbox are: the CLI counts characters here and there.
    root = directory / "bares" / PLAIN / "parity"
    for name in ("work", "home", "home/tmp"):
        await anyio.Path(root / name).mkdir(parents=True, exist_ok=True)
    machine = _Bare(work=str(root / "work"), home=str(root / "home"))
    with _environment(machine):
        return await _play(Run("bare", machine), scenario)


async def play_hosted(scenario: Scenario, directory: Path, provider: str) -> Any:
    """Return what a hosted agent shows."""
    options: dict[str, Any] = {"state_dir": str(directory / "state")} if provider == PLAIN else {}
    async with (
        open_provider(provider, secret="the secret of the parity suite", **options) as opened,
        _ended(await opened.create(SandboxSpec(name=None if provider != PLAIN else "parity"))) as sandbox,
    ):
        home = cast("Any", sandbox).layout.home.rstrip("/")
        await sandbox.exec(["mkdir", "-p", f"{home}/tmp"])
        return await _play(Run("hosted", _Hosted(sandbox, home)), scenario)


async def _play(run: Run, scenario: Scenario) -> Any:
    _running.set(run)
    for path, text in scenario.files.items():
        await run.write(path, text)
    script: Any = scenario.script(run) if callable(scenario.script) else scenario.script
    options = scenario.options(run) if callable(scenario.options) else scenario.options
    with anyio.fail_after(LIMIT):
        async with ScriptedModel(script, api_key=KEY) as model:
            run.machine.url = model.url
            if scenario.connects:
                async with run.open(**options) as client:
                    run.client = client
                    await scenario.steps(run)
            else:
                await scenario.steps(run)
    if scenario.played:
        model.assert_played()
    run.record.requests = list(model.requests)
    return _tree(run.record, run)


def _tree(record: Record, run: Run) -> Any:
    places = {run.work: "<work>", run.home: "<home>"}
    # The CLI names directories after the working directory, with all but letters and digits replaced.
    places |= {re.sub(r"[^a-zA-Z0-9]", "-", path): name for path, name in places.items()}
    tree = {
        "steps": record.steps,
        "callbacks": record.callbacks,
        "warnings": record.warnings,
        "requests": [_request(request) for request in record.requests if request.kind == "turn"],
        # The CLI asks for these at once, so that they come in any order.
        "beside": sorted(
            (_request(request) for request in record.requests if request.kind != "turn"), key=repr
        ),
    }
    return _without_ports(plain(tree, places))


def _request(request: ModelRequest) -> dict[str, Any]:
    query = f"?{request.query}" if request.query else ""
    return {
        "what": f"{request.method} {request.path}{query}",
        "kind": request.kind,
        "headers": dict(request.headers),
        "body": request.body,
    }


def _without_ports(value: Any) -> Any:
    if isinstance(value, str):
        return _LOOPBACK.sub("<model>", value)
    if isinstance(value, dict):
        return {key: _without_ports(item) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_without_ports(item) for item in cast("list[Any]", value)]
    return value


@asynccontextmanager
async def _ended(sandbox: Sandbox) -> AsyncGenerator[Sandbox]:
    try:
        yield sandbox
    finally:
        with anyio.CancelScope(shield=True):
            await sandbox.terminate()


# Whose task this is: warnings are the process's.
_running: ContextVar[Run] = ContextVar("running")


@contextmanager
def _heard_warnings() -> Generator[None]:
    """Record the warnings of the SDK on the side that gives them."""

    def show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        _running.get().record.warnings.append({"class": category.__name__, "text": str(message)})

    with warnings.catch_warnings():
        warnings.filterwarnings("always", category=CanUseToolShadowedWarning)
        warnings.showwarning = show
        yield


@contextmanager
def _environment(machine: _Bare) -> Generator[None]:
    """Give this process as small an environment as a sandbox has, because the bare CLI inherits it."""
    before, directory = dict(os.environ), Path.cwd()
    kept = {"PATH", "USER", *OF_THE_TESTS}
    small = {name: value for name, value in before.items() if name in kept}
    os.environ.clear()
    os.environ.update({"USER": "root", **small, "HOME": machine.home, "LANG": "C.UTF-8"})
    os.chdir(machine.work)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        os.chdir(directory)


def _options(given: Mapping[str, Any], machine: _Bare | _Hosted) -> ClaudeAgentOptions:
    model = {"ANTHROPIC_BASE_URL": machine.url, "ANTHROPIC_API_KEY": KEY}
    env = {**_QUIET, **model, "TMPDIR": f"{machine.home}/tmp", **given.get("env", {})}
    # The SDK hands the CLI's stderr on to this process's own where nobody takes it.
    settings: dict[str, Any] = {"stderr": _drop, **given, "env": env}
    return ClaudeAgentOptions(**settings)


def _drop(line: str) -> None:
    """Keep the CLI's stderr out of the test's."""


@dataclass(slots=True)
class _Bare:
    work: str
    home: str
    url: str = ""

    def make(self, options: dict[str, Any]) -> Client:
        return ClaudeSDKClient(_options(options, self))

    def query(self, prompt: Any, options: dict[str, Any]) -> AsyncIterator[Message]:
        return claude_agent_sdk.query(prompt=prompt, options=_options(options, self))

    async def write(self, path: str, data: bytes, *, mode: int = 0o644) -> str:
        target = anyio.Path(path)
        await target.parent.mkdir(parents=True, exist_ok=True)
        await target.write_bytes(data)
        await target.chmod(mode)
        return path

    async def read(self, path: str) -> str | None:
        target = anyio.Path(path)
        return await target.read_text() if await target.exists() else None

    async def remove(self, path: str) -> None:
        await anyio.to_thread.run_sync(shutil.rmtree, path)


@dataclass(slots=True)
class _Hosted:
    sandbox: Sandbox
    home: str
    url: str = ""
    work: str = field(init=False)

    def __post_init__(self) -> None:
        self.work = self.sandbox.workdir

    def make(self, options: dict[str, Any]) -> Client:
        return HostedAgent(_options(options, self), sandbox=self.sandbox, defaults=None)

    def query(self, prompt: Any, options: dict[str, Any]) -> AsyncIterator[Message]:
        made = _options(options, self)
        return agenthost.query(prompt=prompt, options=made, sandbox=self.sandbox, defaults=None)

    async def write(self, path: str, data: bytes, *, mode: int = 0o644) -> str:
        await self.sandbox.write_file(path, data, mode=mode)
        return path

    async def read(self, path: str) -> str | None:
        try:
            return (await self.sandbox.read_file(path)).decode()
        except FileNotFoundError:
            return None

    async def remove(self, path: str) -> None:
        await self.sandbox.exec(["rm", "-r", path])

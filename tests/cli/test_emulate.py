"""``agenthost emulate``: a cloud's API on this machine, used by what it prints as it stands."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import signal
import subprocess
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from support.command_line import COMMAND, agenthost, environment, run_agenthost
from support.hosting import model_environment

from agenthost.cli import emulate
from agenthost.errors import MissingExtraError
from agenthost.testing import ScriptedModel, Text

LIMIT = 120  # seconds until a test is taken to hang
KEY = "sk-ant-emulated-0123456789"
NAMES = ("cloudflare", "daytona", "e2b", "fly", "modal", "vercel")
CLIENTS = ("e2b", "modal")  # packages without which there is neither the provider nor its emulator
IMAGES = {
    "cloudflare": ("site", "cloudflare_site"),
    "daytona": ("snapshots", "daytona_snapshot"),
    "e2b": ("templates", "e2b_template"),
    "fly": ("images", "fly_images"),
    "modal": ("images", "modal_images"),
    "vercel": ("snapshots", "vercel_snapshot"),
}
WITHOUT_IMAGES = ("cloudflare", "fly")  # `agenthost bake` has nothing to make there
SECRETS = {
    "cloudflare": "api_key",
    "daytona": "api_key",
    "e2b": "api_key",
    "fly": "token",
    "modal": "token_secret",
    "vercel": "token",
}


@contextmanager
def emulated(*arguments: str) -> Generator[subprocess.Popen[str]]:
    """Run the command; Ctrl-C ends it, with exit code 0."""
    argv = [COMMAND, "emulate", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, env=environment(), stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
            process.send_signal(signal.SIGINT)
            assert process.wait(LIMIT) == 0
        finally:
            process.kill()


@asynccontextmanager
async def printed_by(name: str, capsys: pytest.CaptureFixture[str]) -> AsyncGenerator[tuple[str, str]]:
    """Emulate in this process, as the command does; give all that it prints."""
    capsys.readouterr()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(emulate.serve, name, friendly=True, as_json=False))
        out, err = "", ""
        while not (out and err):
            await anyio.lowlevel.checkpoint()
            more = capsys.readouterr()
            out, err = out + more.out, err + more.err
        yield out, err
        tasks.cancel_scope.cancel()


def exported(text: str) -> dict[str, str]:
    """Return the variables that a shell has after these lines."""
    lines = [shlex.split(line, comments=True) for line in text.splitlines()]
    assert all(not words or (words[0] == "export" and len(words) == 2) for words in lines), text
    pairs = [words[1].partition("=") for words in lines if words]
    return {name: value for name, _, value in pairs}


@pytest.fixture
def baked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of an emulator, whose image has been baked: that takes minutes and a network."""
    name: str = request.param
    module = import_module(f"agenthost.testing.emulators.{name}")
    option, fixture = IMAGES[name]
    images: dict[str, Any] = {option: request.getfixturevalue(fixture)}
    monkeypatch.setattr(module, "emulator", partial(module.emulator, **images))
    return name


@pytest.mark.full
@pytest.mark.parametrize("baked", NAMES, indirect=True)
async def test_an_agent_runs_there_with_what_it_prints_pasted_into_a_file_or_a_shell(
    baked: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with printed_by(baked, capsys) as (config, shell):
        path = tmp_path / "pasted.toml"
        path.write_text(config)
        variables = exported(shell)
        secret = f"AGENTHOST_PROVIDERS__{baked.upper()}__{SECRETS[baked].upper()}"
        assert variables[secret] not in config
        ways: list[tuple[tuple[str, ...], dict[str, str]]] = [
            ((), variables),
            (("--config", str(path)), variables),
            (("--config", str(path), "--allow", "provider-options"), {secret: variables[secret]}),
        ]
        for options, env in ways:
            async with ScriptedModel([Text("Done there.")], api_key=KEY) as model:
                env |= model_environment(model, KEY)
                done = await run_agenthost("run", "go", *options, env=env, cwd=tmp_path)
            assert (done.exit_code, "Done there." in done.stdout) == (0, True), done.stderr
            listed = await run_agenthost("ps", *options, "--provider", baked, env=env, cwd=tmp_path)
            assert (listed.exit_code, "no agents" in listed.stdout) == (0, True), listed.stderr
        if baked not in WITHOUT_IMAGES:
            looked = await run_agenthost("doctor", "--provider", baked, env=variables, cwd=tmp_path)
            assert "is baked" in looked.stdout


@pytest.mark.parametrize(
    "provider", [name if name == "e2b" else pytest.param(name, marks=pytest.mark.full) for name in NAMES]
)
def test_the_config_that_it_prints_is_one_and_leads_to_it(provider: str, tmp_path: Path) -> None:
    with emulated(provider) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        path, lines = tmp_path / "pasted.toml", [process.stderr.readline()]
        while not lines[-1].startswith("# other variables"):
            lines.append(process.stderr.readline())
        variables = exported("".join(lines))
        options = sum(name.startswith("AGENTHOST_PROVIDERS__") for name in variables)
        path.write_text("".join(process.stdout.readline() for _ in range(3 + options)))
        checked = agenthost("config", "check", str(path), env=variables)
        assert checked.exit_code == 0, checked.stdout
        listed = agenthost("ps", "--provider", provider, "--config", str(path), env=variables)
        assert listed.exit_code == 0, listed.stderr
        assert "no agents" in listed.stdout + listed.stderr
        looked = agenthost("doctor", "--provider", provider, "--json", "--config", str(path), env=variables)
        report = json.loads(looked.stdout)
        rows = {row["name"]: row for row in report["checks"]}
        assert (looked.exit_code, report["providers"]) == (0, [provider]), looked.stdout
        assert rows["API"]["detail"] == "answers; no sandbox of agenthost is there"
        assert rows["image"]["state"] == (
            "ok" if provider in WITHOUT_IMAGES else "optional"
        )  # nothing is baked there
        assert float(rows["first run"]["facts"]["usd_per_hour"]) > 0
        assert ("the API does not report your plan" in rows["limits"]["detail"]) == (provider != "cloudflare")
        if provider == "cloudflare":  # its Worker states what it allows
            assert rows["limits"]["facts"]["lifetime"] == "24 hours at most"
        assert variables[f"AGENTHOST_PROVIDERS__{provider.upper()}__{SECRETS[provider].upper()}"] not in (
            looked.stdout + looked.stderr
        )


def test_as_json_it_is_one_line_for_programs_with_the_environment() -> None:
    with emulated("e2b", "--friendly", "--json") as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        listed = agenthost("ps", "--provider", "e2b", env=told["environment"])
    assert told["provider"] == told["environment"]["AGENTHOST_PROVIDER"] == "e2b"
    assert told["options"]["api_url"].startswith("http://127.0.0.1:")
    assert listed.exit_code == 0, listed.stderr


@pytest.mark.parametrize("client", CLIENTS)
async def test_without_the_vendors_client_it_is_an_error_that_says_how_to_install_it(
    client: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find_spec = importlib.util.find_spec

    def find_all_but_it(name: str) -> ModuleSpec | None:
        return None if name == client else find_spec(name)

    monkeypatch.setattr(importlib.util, "find_spec", find_all_but_it)
    with pytest.raises(MissingExtraError, match=rf"pip install 'agenthost\[{client}\]'"):
        await emulate.serve(client, friendly=True, as_json=False)
    assert capsys.readouterr().out == ""  # no config that leads nowhere


def test_what_has_no_emulator_is_told_with_those_that_have() -> None:
    done = agenthost("emulate", "nowhere")
    assert done.exit_code == 2
    assert "Known are: cloudflare, daytona, e2b, fly, modal, vercel" in done.stderr
    assert os.sep not in done.stderr

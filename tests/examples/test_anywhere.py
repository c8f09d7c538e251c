"""One program runs on every provider by its config alone, and the SDK says the same everywhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from docker.docker_engine import DockerEngine
from examples.running import KEY, run_example
from parity.compare import compare
from support.hosting import model_environment

from agenthost.testing import ScriptedModel, Text, ToolUse

SCRIPT = (
    ToolUse("Read", {"file_path": "/workspace/code.py"}),
    ToolUse("Edit", {"file_path": "/workspace/code.py", "old_string": "broken", "new_string": "mended"}),
    ToolUse("Bash", {"command": "cat code.py; echo $(pwd); ls /nowhere"}),
    Text("It is mended."),
)


async def messages_of(config: str, env: Mapping[str, str], tmp_path: Path) -> list[dict[str, Any]]:
    """Run the example with a config, and return the messages that it printed."""
    app, changed = tmp_path / "app", tmp_path / "changed"
    app.mkdir()
    (app / "code.py").write_text("broken\n")
    (tmp_path / "agenthost.toml").write_text(config)
    async with ScriptedModel(list(SCRIPT), api_key=KEY) as model:
        arguments = [str(tmp_path / "agenthost.toml"), str(app), str(changed), "Mend it"]
        out = await run_example("anywhere.py", *arguments, env={**model_environment(model, KEY), **env})
        model.assert_played()
    assert (changed / "code.py").read_text() == "mended\n"
    assert (app / "code.py").read_text() == "broken\n"
    return [json.loads(line) for line in out.splitlines()]


@pytest.fixture(scope="module")
def at_home(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Give what is said on this machine."""
    env: dict[str, str] = {}
    return anyio.run(messages_of, 'provider = "local"\n', env, tmp_path_factory.mktemp("local"))


def test_what_is_compared_is_a_whole_conversation(at_home: list[dict[str, Any]]) -> None:
    kinds = [message["$type"] for message in at_home]
    assert kinds[0] == "SystemMessage"
    assert kinds[-1] == "ResultMessage"
    assert kinds.count("UserMessage") == 3
    assert "No such file or directory" in json.dumps(at_home)


async def test_e2b_says_the_same(
    e2b_template: dict[str, Path], at_home: list[dict[str, Any]], tmp_path: Path
) -> None:
    from agenthost.testing.emulators.e2b import emulator

    async with emulator(templates=e2b_template) as e2b:
        assert_same(at_home, await messages_of(*configured("e2b", e2b.options), tmp_path))
        assert e2b.boxes.all == {}


@pytest.mark.full  # e2b is the one cloud of the normal run
async def test_daytona_says_the_same(
    daytona_snapshot: dict[str, Path], at_home: list[dict[str, Any]], tmp_path: Path
) -> None:
    from agenthost.testing.emulators.daytona import emulator

    async with emulator(snapshots=daytona_snapshot) as daytona:
        assert_same(at_home, await messages_of(*configured("daytona", daytona.options), tmp_path))
        assert daytona.running() == []
        assert daytona.unknown == []


@pytest.mark.full  # e2b is the one cloud of the normal run
async def test_vercel_says_the_same(
    vercel_snapshot: dict[str, Path], at_home: list[dict[str, Any]], tmp_path: Path
) -> None:
    from agenthost.testing.emulators.vercel import emulator

    async with emulator(snapshots=vercel_snapshot) as vercel:
        assert_same(at_home, await messages_of(*configured("vercel", vercel.options), tmp_path))
        assert vercel.running() == []
        assert vercel.unknown == []


@pytest.mark.full  # e2b is the one cloud of the normal run
async def test_modal_says_the_same(modal_images: Path, at_home: list[dict[str, Any]], tmp_path: Path) -> None:
    from agenthost.testing.emulators.modal import emulator

    async with emulator(images=modal_images) as modal:
        assert_same(at_home, await messages_of(*configured("modal", modal.options), tmp_path))
        assert modal.running() == []
        assert modal.faults.unknown == []


@pytest.mark.full  # e2b is the one cloud of the normal run
async def test_cloudflare_says_the_same(
    cloudflare_site: Path, at_home: list[dict[str, Any]], tmp_path: Path
) -> None:
    from agenthost.testing.emulators.cloudflare import emulator

    async with emulator(site=cloudflare_site) as cloudflare:
        assert_same(at_home, await messages_of(*configured("cloudflare", cloudflare.options), tmp_path))
        assert cloudflare.running() == []
        assert cloudflare.unknown == []


@pytest.mark.full  # e2b is the one cloud of the normal run
async def test_fly_says_the_same(
    fly_images: Mapping[str, Path], at_home: list[dict[str, Any]], tmp_path: Path
) -> None:
    from agenthost.testing.emulators.fly import emulator

    async with emulator(images=fly_images) as fly:
        assert_same(at_home, await messages_of(*configured("fly", fly.options), tmp_path))
        assert fly.running() == []
        assert fly.unknown == []


@pytest.mark.full  # an engine is there in the long run alone
async def test_docker_says_the_same(
    docker_engine: DockerEngine, baked: str, at_home: list[dict[str, Any]], tmp_path: Path
) -> None:
    config = f'''provider = "docker"
[spec]
image = "{baked}"
[providers.docker]
host = "{docker_engine.host}"
'''
    assert_same(at_home, await messages_of(config, {}, tmp_path))


def configured(name: str, options: Mapping[str, object]) -> tuple[str, dict[str, str]]:
    """Return a config for an emulator, and the environment with what is secret in it."""
    lines = [f'provider = "{name}"', "", f"[providers.{name}]"]
    env: dict[str, str] = {}
    for key, value in options.items():
        variable = f"{name}_emulated_{key}".upper()
        env[variable] = str(value)
        lines.append(f'{key} = {{ env = "{variable}" }}')
    return "\n".join([*lines, ""]), env


def assert_same(bare: list[dict[str, Any]], hosted: list[dict[str, Any]]) -> None:
    """Compare field by field; ids and times may differ."""
    found = compare(bare, hosted)
    assert [str(one) for one in found.differences] == []

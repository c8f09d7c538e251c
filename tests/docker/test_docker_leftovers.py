"""What a host that died left with the engine is found and ended."""

from __future__ import annotations

import time

import pytest

import agenthost
from agenthost.adapter.record import NONCE_LABEL
from agenthost.errors import SandboxGoneError
from agenthost.providers.docker import labels
from agenthost.providers.docker.engine import Engine
from agenthost.providers.docker.errors import EngineError
from agenthost.providers.docker.provider import DockerProvider


async def left_behind(engine: Engine, image: str, kind: str, end: float, *, started: bool) -> str:
    """Make what a host leaves that is killed in the middle of its work."""
    marks = {
        labels.PROVIDER: "docker",
        labels.KIND: kind,
        labels.NAME: "left-behind",
        labels.CREATED: repr(time.time()),
        labels.END: repr(end),
        **labels.of_spec({NONCE_LABEL: "ab", labels.PYTHON: "/usr/local/bin/python3"}),
    }
    volumes = [{"Type": "volume", "Target": "/workspace"}]
    body = {"Image": image, "Cmd": ["true"], "Labels": marks, "HostConfig": {"Mounts": volumes}}
    made = await engine.ask("POST", "/containers/create", query={"name": "left-behind"}, body=body)
    if started:
        await engine.ask("POST", f"/containers/{made['Id']}/start")
        await engine.ask("POST", f"/containers/{made['Id']}/wait")
    return str(made["Id"])


@pytest.mark.parametrize("started", [False, True])
async def test_a_sandbox_that_never_ran_or_could_not_be_taken_away_is_listed_and_can_be_ended(
    provider: DockerProvider, engine: Engine, baked: str, started: bool
) -> None:
    made = await left_behind(engine, baked, "sandbox", time.time() - 1, started=started)
    try:
        (info,) = [info async for info in provider.list()]
        assert (info.id, info.state) == (made, "ended" if started else "starting")
        if started:
            with pytest.raises(SandboxGoneError):
                await provider.get(made)
        await (await provider.reach(made)).terminate()
        assert [info async for info in provider.list()] == []
    except BaseException:
        await engine.ask("DELETE", f"/containers/{made}", query={"force": True, "v": True})
        raise


async def test_a_builder_whose_owner_is_not_known_is_reaped_when_it_is_overdue_and_not_before(
    provider: DockerProvider, engine: Engine, baked: str
) -> None:
    made = await left_behind(engine, baked, "builder", time.time() + 100, started=False)
    try:
        (told,) = await agenthost.reap(provider, unknown=True)
        assert (told.info.id, told.outcome) == (made, "kept")
        assert told.reason == "a builder of images: its owner is not known here"
    finally:
        await engine.ask("DELETE", f"/containers/{made}", query={"v": True})
    made = await left_behind(engine, baked, "builder", time.time() - 100, started=True)
    (told,) = await agenthost.reap(provider)
    assert (told.info.id, told.outcome) == (made, "reaped")
    with pytest.raises(EngineError, match=r"(?i)no such container"):
        await engine.ask("GET", f"/containers/{made}/json")

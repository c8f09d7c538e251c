"""``agenthost bake``, on a real engine."""

from __future__ import annotations

import json

import pytest
from docker.docker_engine import DockerEngine

from agenthost.cli.app import run_command_line


def test_the_command_prints_the_image_and_tells_of_its_progress_beside_it(
    docker_engine: DockerEngine,
    baked: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DOCKER_HOST", docker_engine.host)
    assert run_command_line(["bake", "docker", "--base", docker_engine.base]) == 0
    told = capsys.readouterr()
    assert told.out == f"{baked}\n"
    assert f"{baked} is there already" in told.err
    assert run_command_line(["bake", "docker", "--base", docker_engine.base, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["image"] == baked


@pytest.mark.full
def test_the_command_refuses_a_provider_that_makes_no_images(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["bake", "local-unisolated"]) == 1
    assert "makes no images" in capsys.readouterr().err

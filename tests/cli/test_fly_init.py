"""``agenthost fly init`` makes an app at Fly ready, prints what it did, and can be repeated."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.command_line import run_agenthost

from agenthost.testing.emulators.fly import Emulator, emulator

FREE = "Neither an app nor these addresses cost anything."


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the command is a process of its own


def variables(fly: Emulator) -> dict[str, str]:
    return {
        "FLY_API_TOKEN": fly.options["token"],
        "FLY_API_HOSTNAME": fly.options["api_url"],
        "FLY_APP": "of-the-variable",
    }


async def test_it_makes_an_app_and_its_addresses_once() -> None:
    async with emulator(friendly=True) as fly:
        done = await run_agenthost("fly", "init", "new-app", "--org", "an-org", env=variables(fly))
        assert done.exit_code == 0, done.stderr
        assert "app new-app in the organization an-org" in done.stdout
        assert done.stdout.count(": made") == 3
        assert "https://new-app.fly.dev" in done.stdout
        assert FREE in done.stdout
        app = fly.apps["new-app"]
        assert (app.organization, app.network, sorted(app.addresses)) == (
            "an-org",
            "new-app",
            ["shared_v4", "v6"],
        )
        again = await run_agenthost("fly", "init", "new-app", "--json", env=variables(fly))
        answered: dict[str, Any] = json.loads(again.stdout)
        assert answered["made"] == []
        assert answered["found"] == ["app", "shared_v4", "v6"]
        assert (answered["name"], answered["organization"]) == ("new-app", "an-org")
        assert answered["monthly_cost"] == 0


async def test_without_a_name_it_is_the_app_of_the_options_and_a_taken_name_is_a_clear_error() -> None:
    async with emulator(friendly=True, foreign_apps=["of-the-variable"]) as fly:
        done = await run_agenthost("fly", "init", env=variables(fly))
        assert (done.exit_code, done.stdout) == (2, "")
        assert "an app named of-the-variable exists already" in done.stderr
        assert "choose another" in done.stderr
        assert fly.options["token"] not in done.stderr


async def test_without_a_token_it_says_what_to_set() -> None:
    done = await run_agenthost("fly", "init", "new-app", env={})
    assert done.exit_code == 2
    assert "set FLY_API_TOKEN and FLY_APP" in done.stderr

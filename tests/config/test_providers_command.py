"""``agenthost providers``: the table is the code's own, and a broken provider hides no other."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from support.command_line import run_agenthost
from support.installed import environment_with, install, write_module

from agenthost import open_provider
from agenthost.registry import load_provider, provider_names
from agenthost.sandbox import Capabilities


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run once: the command is a process of its own."""
    return "asyncio"


async def rows(env: dict[str, str] | None = None) -> dict[str, dict[str, Any]]:
    done = await run_agenthost("providers", "--json", env=env)
    assert done.exit_code == 0, done.stderr
    return {row["name"]: row for row in json.loads(done.stdout)["providers"]}


async def test_it_tells_each_provider_as_the_code_has_it() -> None:
    found = await rows()
    assert set(found) == set(provider_names())
    for name, row in found.items():
        assert set(row["capabilities"]) == {one.name for one in fields(Capabilities)}
        async with AsyncExitStack() as stack:
            if row["state"] == "not set up":  # for want of a credential: what it says of all its sandboxes
                able = load_provider(name).capabilities
            else:
                able = (await stack.enter_async_context(open_provider(name))).capabilities
            for capability, value in row["capabilities"].items():
                own: Any = getattr(able, capability)
                own = sorted(own) if isinstance(value, list) else own
                assert value == own, f"{name}: {capability}"
    assert {"cloudflare", "daytona", "e2b", "fly", "modal", "vercel"} <= {
        name for name, row in found.items() if row["state"] == "not set up"
    }


async def test_it_says_what_works_here_and_what_to_do_for_the_rest(tmp_path: Path) -> None:
    found = await rows({"PATH": str(tmp_path), "DOCKER_HOST": f"unix://{tmp_path}/none.sock"})
    assert (found["local-unisolated"]["state"], found["local-unisolated"]["remedy"]) == ("usable", "")
    assert found["local"]["state"] == "not usable"
    assert "Install it:" in found["local"]["remedy"]
    assert found["docker"]["state"] == "not usable"
    assert "start it, or name another by DOCKER_HOST" in found["docker"]["remedy"]


async def test_what_is_not_installed_or_broken_says_so_and_hides_no_other(tmp_path: Path) -> None:
    """The client of a vendor that is missing is not imported; that it is missing is found by its provider."""
    write_module(tmp_path, "fine")
    write_module(tmp_path, "needy", "import vendor_client\nclass Provider: ...\n")
    write_module(tmp_path, "ruined", "1 / 0")
    write_module(tmp_path, "greedy", "class Provider:\n    def __init__(self, needed): ...\n")
    write_module(
        tmp_path,
        "keyless",
        """
        from agenthost.errors import MissingCredentialError
        from agenthost.sandbox import Capabilities

        class Provider:
            capabilities = Capabilities(isolation="gvisor")

            def __init__(self):
                raise MissingCredentialError("set ACME_TOKEN, or give token=")
        """,
    )
    write_module(tmp_path, "careless", "class Provider:\n    def __init__(self):\n        {}['ACME_TOKEN']\n")
    targets = {name: f"{name}:Provider" for name in ("fine", "ruined", "greedy", "keyless", "careless")}
    install(tmp_path, "acme-sandbox", {**targets, "needy": "needy:Provider [http]"})
    found = await rows(environment_with(tmp_path))
    states = {name: found[name]["state"] for name in (*targets, "needy")}
    assert states == {
        "fine": "usable",
        "ruined": "broken",
        "careless": "broken",
        "greedy": "not set up",
        "keyless": "not set up",
        "needy": "not installed",
    }
    assert found["fine"]["capabilities"]["networks"] == ["none", "open"]
    assert found["fine"]["distribution"] == "acme-sandbox 1.2"
    assert found["keyless"]["remedy"] == "set ACME_TOKEN, or give token="
    assert found["keyless"]["capabilities"]["isolation"] == "gvisor"
    assert found["needy"]["capabilities"] is None
    assert "pip install 'acme-sandbox[http]'" in found["needy"]["remedy"]
    assert found["ruined"]["remedy"] == (
        "the entry point 'ruined' (agenthost.providers) of acme-sandbox 1.2 cannot be loaded: "
        "ZeroDivisionError: division by zero"
    )
    assert found["greedy"]["remedy"].startswith("provider 'greedy' requires the option needed: set it in")
    assert "acme-sandbox 1.2 fails: KeyError" in found["careless"]["remedy"]


async def test_a_person_reads_a_table() -> None:
    done = await run_agenthost("providers")
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == sorted(provider_names())
    assert any(line.startswith("isolation") and "namespaces" in line.split() for line in lines)
    labels = {one.name.replace("_", " ") for one in fields(Capabilities)}
    assert all(any(line.startswith(label) for line in lines) for label in labels)

"""Which account and which client: nothing in the current directory decides that."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio
import pytest

from agenthost.cli.configured_providers import Where
from agenthost.cli.doctor import look_at_one
from agenthost.errors import MissingCredentialError, MissingExtraError
from agenthost.providers.daytona import workarounds
from agenthost.providers.daytona.provider import DaytonaProvider
from agenthost.providers.daytona.workarounds import settings
from agenthost.spec import SandboxSpec
from agenthost.testing.emulators.daytona import Emulator
from agenthost.testing.emulators.daytona.emulator import CREATE

LIMIT = 120
# Names the parts of the client as they are used first, and reports which of them a program has loaded.
HEAVY = """
import contextlib, io, json, sys
import agenthost
from agenthost.cli.app import run_command_line
printed = io.StringIO()
with contextlib.redirect_stdout(printed):
    run_command_line(["doctor", "--json"])
    run_command_line(["providers", "--json"])
doctor, providers = map(json.loads, printed.getvalue().splitlines())
assert "daytona" in doctor["providers"]
assert ["usable"] == [row["state"] for row in providers["providers"] if row["name"] == "daytona"]
print(sorted({name.partition(".")[0] for name in sys.modules} & {"daytona", "daytona_sdk", "aiohttp"}))
"""


async def test_a_file_in_the_current_directory_chooses_no_account_no_region_and_no_tracing(
    daytona: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["API_KEY=dtn_another", "TARGET=eu", "API_URL=http://192.0.2.1/api", "OTEL_ENABLED=true"]
    (tmp_path / ".env").write_text("".join(f"DAYTONA_{line}\n" for line in lines))
    monkeypatch.chdir(tmp_path)
    async with DaytonaProvider(
        api_key=daytona.options["api_key"], api_url=daytona.options["api_url"]
    ) as opened:
        box = await opened.create(SandboxSpec())
        assert daytona.box(box.id).body["target"] == "us"
        await box.terminate()
    from opentelemetry import trace

    assert type(trace.get_tracer_provider()).__name__ == "ProxyTracerProvider"


def test_a_credential_is_a_key_or_a_token_with_its_organization(monkeypatch: pytest.MonkeyPatch) -> None:
    where = {"api_url": workarounds.API, "target": "us"}
    assert settings("dtn_x", None, None, None, None) == {"api_key": "dtn_x", **where}
    monkeypatch.setenv("DAYTONA_API_KEY", "dtn_env")
    monkeypatch.setenv("DAYTONA_TARGET", "eu")
    assert settings(None, None, None, None, None) == {"api_key": "dtn_env", **where, "target": "eu"}
    token = {"jwt_token": "j.w.t", "organization_id": "org-1"}
    assert settings(None, "j.w.t", "org-1", None, "us") == {**token, **where}
    monkeypatch.delenv("DAYTONA_API_KEY")
    with pytest.raises(MissingCredentialError, match="organization_id"):
        settings(None, "j.w.t", None, None, None)


async def test_doctor_says_what_a_first_run_needs_costs_and_leaves_and_makes_nothing(
    daytona: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAYTONA_API_KEY", daytona.options["api_key"])
    monkeypatch.setenv("DAYTONA_API_URL", daytona.options["api_url"])
    made = daytona.calls.count(CREATE)
    rows = {row.name: row for row in await look_at_one(Where(named=("daytona",)), "daytona")}
    assert [rows[name].state for name in ("package", "credentials", "API", "image")] == ["ok"] * 4
    assert rows["limits"].detail.startswith("a sandbox lives as long as you ask for")
    assert rows["image"].detail.endswith("is baked")
    assert "an hour" in rows["first run"].detail
    assert daytona.calls.count(CREATE) == made
    assert not any(daytona.options["api_key"] in repr(row) for row in rows.values())


async def test_neither_doctor_nor_providers_nor_the_package_itself_loads_the_client() -> None:
    with anyio.fail_after(LIMIT):
        env = {**os.environ, "DAYTONA_API_KEY": "dtn_of-this-test"}
        done = await anyio.run_process([sys.executable, "-c", HEAVY], env=env)
    assert done.stdout == b"[]\n", done.stderr.decode()


def test_a_client_with_another_interface_is_named_with_the_command_that_installs_the_right_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "daytona.py").write_text("class AsyncDaytona: ...\n")  # 2.0 has this name, and not the others
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for name in [name for name in sys.modules if name.partition(".")[0] == "daytona"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingExtraError, match=r"below 1\.0.*pip install 'agenthost\[daytona\]'"):
        workarounds.import_kit()
    sys.modules.pop("daytona")

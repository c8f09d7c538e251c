"""Whose account is used: options first, then an OIDC token, then the variables of an access token."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from emulators.recorder import Recorded, recorder

from agenthost.errors import AccessDeniedError, ProviderError
from agenthost.providers.vercel.provider import VercelProvider
from agenthost.spec import SandboxSpec
from agenthost.testing.emulators.vercel import Emulator, Fault
from agenthost.testing.emulators.vercel.emulator import CREATE


@asynccontextmanager
async def recorded(vercel: Emulator) -> AsyncGenerator[tuple[str, list[Recorded]]]:
    """Yield a base URL at which an emulator answers, and the requests that come."""
    async with recorder(vercel) as (url, requests):
        yield f"{url}/api", requests


async def listed(provider: VercelProvider) -> None:
    assert [info async for info in provider.list()] == []


async def test_an_oidc_token_names_its_team_and_project(
    vercel: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = vercel.oidc_token(3600)
    monkeypatch.setenv("VERCEL_OIDC_TOKEN", token)
    async with recorded(vercel) as (url, requests), VercelProvider(base_url=url) as provider:
        await listed(provider)
    (request,) = requests
    assert request.headers["authorization"] == f"Bearer {token}"
    assert (request.query["teamId"], request.query["project"]) == ("team_emulated", "prj_emulated")


async def test_an_oidc_token_of_the_environment_wins_over_an_access_token_of_it_and_loses_to_options(
    vercel: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    oidc = vercel.oidc_token(3600)
    monkeypatch.setenv("VERCEL_OIDC_TOKEN", oidc)
    monkeypatch.setenv("VERCEL_TOKEN", "vcp_of_the_environment")
    monkeypatch.setenv("VERCEL_TEAM_ID", vercel.options["team_id"])
    monkeypatch.setenv("VERCEL_PROJECT_ID", vercel.options["project_id"])
    async with recorded(vercel) as (url, requests):
        async with VercelProvider(base_url=url) as provider:
            await listed(provider)
        # One option is enough: what is in the environment by chance belongs to another project.
        async with VercelProvider(token=vercel.options["token"], base_url=url) as provider:
            await listed(provider)
    sent = [request.headers["authorization"] for request in requests]
    assert sent == [f"Bearer {oidc}", f"Bearer {vercel.options['token']}"]


async def test_an_oidc_token_is_read_anew_for_each_call_from_a_file_too(
    vercel: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    monkeypatch.setenv("VERCEL_OIDC_TOKEN_FILE", str(file))
    tokens = [vercel.oidc_token(3600), vercel.oidc_token(3600)]
    async with recorded(vercel) as (url, requests), VercelProvider(base_url=url) as provider:
        for token in tokens:
            file.write_text(f"{token}\n")
            await listed(provider)
    assert [request.headers["authorization"] for request in requests] == [f"Bearer {one}" for one in tokens]


@pytest.mark.parametrize("token", ["expired", "not-a-token", "a.b.c", "e30.e30.e30"])
async def test_an_oidc_token_that_cannot_be_used_is_refused_before_any_call_with_what_to_run(
    vercel: Emulator, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    if token == "expired":
        monkeypatch.setattr(vercel.clock, "now", lambda: time.time() - 7200)
        token = vercel.oidc_token(3600)
        monkeypatch.undo()
        for name in ("VERCEL_TOKEN", "VERCEL_TEAM_ID", "VERCEL_PROJECT_ID"):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VERCEL_OIDC_TOKEN", token)
    before = len(vercel.calls)
    async with VercelProvider(base_url=vercel.options["base_url"]) as provider:
        with pytest.raises(AccessDeniedError, match="vercel env pull") as caught:
            await provider.create(SandboxSpec())
    assert len(vercel.calls) == before
    assert token not in "".join(traceback.format_exception(caught.value)).replace("not a valid", "")


async def test_no_token_is_in_a_url_a_log_an_error_or_a_repr(
    vercel: Emulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = vercel.oidc_token(3600)
    monkeypatch.setenv("VERCEL_OIDC_TOKEN", token)
    # A refusal may quote what was sent.
    vercel.faults.add(Fault(CREATE, status=500, message=f"cannot make it for Bearer {token}", times=1))
    try:
        async with recorded(vercel) as (url, requests), VercelProvider(base_url=url) as provider:
            monkeypatch.setattr(provider, "looks", (0.0,))
            with pytest.raises(ProviderError) as caught:
                await provider.create(SandboxSpec())
            shown = f"{provider!r} {provider.vendor!r} {caplog.text}"
    finally:
        vercel.faults.clear()
    shown += "".join(traceback.format_exception(caught.value)) + "".join(one.target for one in requests)
    assert "***" in shown
    assert token not in shown

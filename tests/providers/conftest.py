"""What the tests of every adapter get."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest
from modal_provider.images import end_thread_of_the_client
from providers.row import Row, World
from providers.rows import ROWS

from agenthost.adapter.provider import GuestProvider


@pytest.fixture(scope="module")
def row(request: pytest.FixtureRequest) -> Row:
    """Give the adapter."""
    found: Row = request.param
    return found


@pytest.fixture(scope="module")
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run on the event loops that the adapter works on, see ``every``."""
    loop: str = request.param
    return loop


@pytest.fixture(scope="module")
def needed(row: Row, request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """Give the values of the fixtures that the row names."""
    return {name: request.getfixturevalue(name) for name in row.needs}


@pytest.fixture(scope="module")
async def world(row: Row, needed: Mapping[str, Any], anyio_backend: str) -> AsyncIterator[World]:
    """Give what stands behind the adapter."""
    del anyio_backend
    async with row.serve(needed) as served:
        yield served
        assert list(served.unknown) == []


@pytest.fixture
async def provider(row: Row, world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[GuestProvider]:
    """Give the provider, open. The test that leaves a sandbox fails."""
    async with row.make(**world.options) as opened:
        row.hurry(opened, monkeypatch)
        yield opened
        world.clear()
    assert await world.running() == []


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nothing of this machine's owner in the environment."""
    for one in ROWS:
        for variable in one.credentials.values():
            monkeypatch.delenv(variable, raising=False)
    others = ("MODAL_SERVER_URL", "MODAL_ENVIRONMENT", "MODAL_PROFILE", "FLY_API_HOSTNAME")
    for name in (*others, "E2B_DOMAIN", "E2B_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    for name in ("DAYTONA_JWT_TOKEN", "DAYTONA_ORGANIZATION_ID", "DAYTONA_API_URL", "DAYTONA_TARGET"):
        monkeypatch.delenv(name, raising=False)
    for name in ("VERCEL_OIDC_TOKEN", "VERCEL_OIDC_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session", autouse=True)
def no_profile() -> Iterator[None]:
    """Have no profile of this machine's owner, which Modal's client reads when it is imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("modal.config._user_config", {})
        yield
    end_thread_of_the_client()

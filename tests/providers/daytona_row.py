"""The row of the daytona provider."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from providers.row import EmulatedWorld, Example, Row, World

from agenthost.adapter.images import ImageGoneError
from agenthost.adapter.provider import GuestProvider
from agenthost.errors import (
    ConfigError,
    NameTakenError,
    ProviderBusyError,
    ProviderError,
    QuotaError,
    SandboxGoneError,
    SandboxNotFoundError,
    UnsupportedError,
)
from agenthost.providers.daytona.errors import error_rows
from agenthost.providers.daytona.provider import DaytonaProvider
from agenthost.testing.emulators.daytona import emulator
from agenthost.testing.emulators.daytona.emulator import CREATE

REFUSED, UNKNOWN = "refused", "unknown"
_tables: dict[str, Sequence[Any]] = {}


@asynccontextmanager
async def serve(needed: Mapping[str, Any]) -> AsyncGenerator[EmulatedWorld]:
    """Run an emulator of Daytona in which sandboxes may be made as often as the tests do."""
    del needed
    async with emulator(creates_at_once=10_000) as running:
        yield EmulatedWorld(running, CREATE)
        await running.settled()


def errors() -> tuple[Sequence[Any], Sequence[Example]]:
    """Return the table, and an example for each row."""
    import daytona as kit

    table = _tables.setdefault("daytona", error_rows(kit))
    tier = "Network access is restricted and cannot be overridden at the sandbox level."
    return table, (
        Example(kit.DaytonaAuthenticationError("no", 401), ProviderError, REFUSED, "refused the credential"),
        Example(kit.DaytonaRateLimitError("no", 429), ProviderBusyError, REFUSED, "too many requests"),
        Example(
            kit.DaytonaForbiddenError("Total CPU limit exceeded. Maximum allowed: 10", 403),
            QuotaError,
            REFUSED,
            "quota is used up",
        ),
        Example(kit.DaytonaForbiddenError("no", 403), ProviderError, REFUSED, "does not allow this"),
        Example(kit.DaytonaBadRequestError(tier, 400), UnsupportedError, "", "tier does not let"),
        Example(
            kit.DaytonaBadRequestError("Snapshot x not found. Did you add it?", 400),
            ImageGoneError,
            "",
            "does not have this snapshot",
        ),
        Example(
            kit.DaytonaBadRequestError("Secret x not found", 400), ConfigError, "", "does not accept this"
        ),
        Example(kit.DaytonaBadRequestError("no", 400), ConfigError, "", "does not accept this"),
        Example(kit.DaytonaUnprocessableEntityError("no", 422), ConfigError, "", "does not accept this"),
        Example(
            kit.DaytonaNotFoundError("Failed to get snapshot: no", 404),
            ImageGoneError,
            "",
            "does not have this snapshot",
        ),
        Example(
            kit.DaytonaNotFoundError("Sandbox with ID or name my-snapshot not found", 404),
            SandboxNotFoundError,
            "",
            "does not have this sandbox",
        ),
        Example(kit.DaytonaNotFoundError("no", 404), SandboxNotFoundError, "", "does not have this"),
        Example(
            kit.DaytonaConflictError("Sandbox with name web already exists", 409),
            NameTakenError,
            "",
            "of this name",
        ),
        Example(kit.DaytonaConflictError("no", 409), ProviderBusyError, REFUSED, "cannot do this now"),
        Example(kit.DaytonaGoneError("no", 410), SandboxGoneError, "", "is gone"),
        Example(kit.DaytonaQueueTimeoutError("no"), QuotaError, REFUSED, "had no room"),
        Example(
            kit.DaytonaConnectionError("Cannot connect to host app.daytona.io:443"),
            ProviderError,
            REFUSED,
            "could not be reached",
        ),
        Example(kit.DaytonaConnectionError("Server disconnected"), ProviderError, UNKNOWN, "answer"),
        Example(
            kit.DaytonaConnectionTimeoutError("no"), ProviderError, UNKNOWN, "answer of Daytona was lost"
        ),
        Example(kit.DaytonaTimeoutError("no", 504), ProviderError, UNKNOWN, "did not answer in time"),
        Example(kit.DaytonaServiceUnavailableError("no", 503), ProviderBusyError, UNKNOWN, "no capacity"),
        Example(kit.DaytonaInternalServerError("no", 500), ProviderError, UNKNOWN, "Daytona failed"),
        # Without a row.
        Example(KeyError("sandbox"), ProviderError, UNKNOWN, "client failed"),
    )


def hurry(provider: GuestProvider, patch: pytest.MonkeyPatch) -> None:
    """Look for what a lost answer made at once."""
    patch.setattr(provider, "looks", (0.0, 0.05))


def disown(world: World, sandbox_id: str) -> None:
    """Remove what states that agenthost made it."""
    cast("EmulatedWorld", world).emulator.box(sandbox_id).labels.pop("agenthost-provider")


DAYTONA = Row(
    name="daytona",
    make=DaytonaProvider,
    serve=serve,
    asyncio_only=True,
    package="daytona",
    former="daytona_sdk",
    credentials={"api_key": "DAYTONA_API_KEY"},
    secrets=("api_key",),
    wrong={"api_key": "dtn_" + "c0ffee" * 10},
    address=("api_url",),
    errors=errors,
    create=CREATE,
    hurry=hurry,
    disown=disown,
    bakes={"cpu": 4, "memory_gib": 8, "disk_gib": 10},
)

"""The row of the vercel provider."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from providers.row import EmulatedWorld, Example, Row, World

from agenthost.adapter.images import ImageGoneError
from agenthost.adapter.rest import RestError
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
from agenthost.http import TransportError
from agenthost.providers.vercel.errors import ROWS
from agenthost.providers.vercel.provider import VercelProvider
from agenthost.testing.emulators.vercel import emulator
from agenthost.testing.emulators.vercel.emulator import CREATE

REFUSED, UNKNOWN = "refused", "unknown"


@asynccontextmanager
async def serve(needed: Mapping[str, Any]) -> AsyncGenerator[EmulatedWorld]:
    """Run an emulator of Vercel in which sandboxes may be made as often as the tests do."""
    del needed
    async with emulator(creates_at_once=10_000) as running:
        yield EmulatedWorld(running, CREATE)
        await running.settled()


def errors() -> tuple[Sequence[Any], Sequence[Example]]:
    """Return the table, and an example for each row."""
    taken = "Named sandbox 'web' already exists. Use GET /sandboxes/:name to resume it."
    transforms = "Header transforms are not available on your plan."
    return ROWS, (
        Example(RestError(400, "bad_request", taken), NameTakenError, "", "exists already"),
        Example(RestError(410, "snapshot_not_found", "no"), ImageGoneError, "", "not have this snapshot"),
        Example(RestError(400, "snapshot_not_found", "no"), ImageGoneError, "", "not have this snapshot"),
        Example(RestError(400, "bad_request", "no"), ConfigError, "", "does not accept this"),
        Example(RestError(401, "unauthorized", "no"), ProviderError, REFUSED, "refused the token"),
        Example(RestError(402, "payment_required", "no"), QuotaError, REFUSED, "allowance is used up"),
        Example(RestError(403, "forbidden", transforms), UnsupportedError, "", "plan does not include"),
        Example(RestError(403, "forbidden", "Not authorized"), ProviderError, REFUSED, "refused the token"),
        Example(RestError(404, "not_found", "no"), SandboxNotFoundError, "", "no such sandbox"),
        Example(RestError(409, "conflict", "no"), ProviderBusyError, REFUSED, "cannot do this now"),
        Example(RestError(410, "sandbox_stream_closed", "cut"), ProviderError, UNKNOWN, "stream was closed"),
        Example(RestError(410, "sandbox_stopped", "no"), SandboxGoneError, "", "has stopped"),
        Example(RestError(422, "sandbox_stopping", "no"), ProviderBusyError, REFUSED, "accepts no calls"),
        Example(
            RestError(429, "rate_limited", "The concurrency limit has been exceeded."),
            QuotaError,
            REFUSED,
            "as many sandboxes as its plan allows",
        ),
        Example(RestError(429, "rate_limited", "no"), ProviderBusyError, REFUSED, "too many requests"),
        Example(RestError(500, "internal_server_error", "no"), ProviderError, UNKNOWN, "Vercel failed"),
        Example(RestError(502, "", "a page of the edge"), ProviderError, UNKNOWN, "Vercel failed"),
        Example(TransportError("ConnectError at vercel.com"), ProviderError, REFUSED, "could not be reached"),
        Example(
            TransportError("ReadError at vercel.com"), ProviderError, UNKNOWN, "answer of Vercel was lost"
        ),
        # Without a row.
        Example(KeyError("sandbox"), ProviderError, UNKNOWN, "client failed"),
    )


def disown(world: World, sandbox_id: str) -> None:
    """Remove what says that agenthost made it."""
    box = cast("EmulatedWorld", world).emulator.box(sandbox_id)
    box.body["tags"].pop("agenthost-provider")


VERCEL = Row(
    name="vercel",
    make=VercelProvider,
    serve=serve,
    credentials={
        "token": "VERCEL_TOKEN",
        "team_id": "VERCEL_TEAM_ID",
        "project_id": "VERCEL_PROJECT_ID",
    },
    secrets=("token",),
    wrong={"token": "vcp_" + "c0ffee" * 7, "team_id": "team_other", "project_id": "prj_other"},
    address=("base_url",),
    errors=errors,
    create=CREATE,
    hurry=lambda provider, patch: patch.setattr(provider, "looks", (0.0, 0.05)),
    disown=disown,
    bakes={},
    longest=24 * 3600,
)

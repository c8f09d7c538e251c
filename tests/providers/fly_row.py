"""The row of the fly provider."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from providers.row import EmulatedWorld, Example, Row, World

from agenthost.adapter.rest import RestError
from agenthost.errors import (
    ConfigError,
    NameTakenError,
    ProviderBusyError,
    ProviderError,
    QuotaError,
    SandboxNotFoundError,
)
from agenthost.http import TransportError
from agenthost.providers.fly.errors import (
    AppError,
    CapacityError,
    ForeignAppError,
    MissingAppError,
    rows,
)
from agenthost.providers.fly.provider import FlyProvider
from agenthost.testing.emulators.fly import emulator

CREATE = "POST /v1/apps/sandboxes/machines"
REFUSED, UNKNOWN = "refused", "unknown"


@asynccontextmanager
async def serve(needed: Mapping[str, Any]) -> AsyncGenerator[EmulatedWorld]:
    """Run an emulator of Fly."""
    del needed
    async with emulator() as running:
        yield EmulatedWorld(running, CREATE)
        await running.settled()


def errors() -> tuple[Sequence[Any], Sequence[Example]]:
    """Return the table, and an example for each row."""
    taken = "already_exists: unique machine name violation, machine ID 1 already exists with name"
    return rows(), (
        Example(RestError(409, "", taken), NameTakenError, "", "the name is taken"),
        Example(
            AppError(422, "", '{"error": "taken", "status": "name_taken"}'), NameTakenError, "", "the name is"
        ),
        Example(RestError(403, "", "over the allowed quota"), QuotaError, REFUSED, "as many machines"),
        Example(AppError(422, "", '{"status": "insufficient_capacity"}'), CapacityError, REFUSED, "no room"),
        Example(RestError(412, "", "insufficient resources available"), CapacityError, REFUSED, "no room"),
        Example(RestError(409, "", "insufficient memory available"), CapacityError, REFUSED, "no room"),
        Example(RestError(400, "", "no capacity available"), CapacityError, REFUSED, "no room"),
        Example(RestError(500, "", "could not reserve resource"), CapacityError, REFUSED, "no room"),
        Example(
            RestError(400, "", "invalid config"),
            ConfigError,
            "",
            "accept this (400: invalid config)",
        ),
        Example(RestError(401, "", "unauthorized"), ProviderError, REFUSED, "refused the token"),
        Example(AppError(403, "", "not authorized"), ForeignAppError, REFUSED, "another organisation"),
        Example(RestError(403, "", "not authorized"), ProviderError, REFUSED, "does not allow this"),
        Example(AppError(404, "", "app not found"), MissingAppError, "", "`agenthost fly init` makes it"),
        Example(RestError(404, "", "machine not found"), SandboxNotFoundError, "", "no such machine"),
        Example(RestError(408, "", "deadline_exceeded"), ProviderError, UNKNOWN, "did not do this in time"),
        Example(RestError(409, "", "lease held"), ProviderBusyError, REFUSED, "cannot do this now"),
        Example(RestError(412, "", "not in state started"), ProviderError, REFUSED, "state of the machine"),
        Example(RestError(422, "", "validation failed"), ConfigError, "", "does not accept this"),
        Example(RestError(429, "", "rate limit exceeded"), ProviderBusyError, REFUSED, "too many requests"),
        Example(RestError(500, "", "broken"), ProviderError, UNKNOWN, "Fly failed (500: broken)"),
        Example(TransportError("ConnectError at api"), ProviderError, REFUSED, "could not be reached"),
        Example(TransportError("ConnectTimeout at api"), ProviderError, REFUSED, "could not be reached"),
        Example(TransportError("ReadError at api"), ProviderError, UNKNOWN, "answer of Fly was lost"),
    )


def disown(world: World, sandbox_id: str) -> None:
    """Remove the name that agenthost gave."""
    cast("EmulatedWorld", world).emulator.box(sandbox_id).metadata.pop("agenthost-name")


FLY = Row(
    name="fly",
    make=FlyProvider,
    serve=serve,
    credentials={"token": "FLY_API_TOKEN", "app": "FLY_APP"},
    secrets=("token",),
    wrong={"token": "fm2_c0ffeec0ffeec0ffee0000", "app": "wrong-app"},
    address=("api_url", "app_url"),
    errors=errors,
    create=CREATE,
    hurry=lambda provider, patch: patch.setattr(provider, "looks", (0.0, 0.05)),
    disown=disown,
    longest=30 * 24 * 3600,
)

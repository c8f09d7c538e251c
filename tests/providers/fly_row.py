"""The row of the fly provider."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from providers.row import EmulatedWorld, Example, Row, World

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
    FlyError,
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
        Example(FlyError(taken, 409), NameTakenError, "", "the name is taken"),
        Example(
            AppError('{"error": "taken", "status": "name_taken"}', 422), NameTakenError, "", "the name is"
        ),
        Example(FlyError("over the allowed quota", 403), QuotaError, REFUSED, "as many machines"),
        Example(AppError('{"status": "insufficient_capacity"}', 422), CapacityError, REFUSED, "no room"),
        Example(FlyError("insufficient resources available", 412), CapacityError, REFUSED, "no room"),
        Example(FlyError("insufficient memory available", 409), CapacityError, REFUSED, "no room"),
        Example(FlyError("no capacity available", 400), CapacityError, REFUSED, "no room"),
        Example(FlyError("could not reserve resource for machine", 500), CapacityError, REFUSED, "no room"),
        Example(FlyError("invalid config", 400), ConfigError, "", "does not accept this (invalid config)"),
        Example(FlyError("unauthorized", 401), ProviderError, REFUSED, "refused the token"),
        Example(AppError("not authorized", 403), ForeignAppError, REFUSED, "another organisation"),
        Example(FlyError("not authorized", 403), ProviderError, REFUSED, "does not allow this"),
        Example(AppError("app not found", 404), MissingAppError, "", "`agenthost fly init` makes it"),
        Example(FlyError("machine not found", 404), SandboxNotFoundError, "", "no such machine"),
        Example(FlyError("deadline_exceeded", 408), ProviderError, UNKNOWN, "did not do this in time"),
        Example(FlyError("lease held", 409), ProviderBusyError, REFUSED, "cannot do this now"),
        Example(FlyError("not in state started", 412), ProviderError, REFUSED, "state of the machine"),
        Example(FlyError("validation failed", 422), ConfigError, "", "does not accept this"),
        Example(FlyError("rate limit exceeded", 429), ProviderBusyError, REFUSED, "too many requests"),
        Example(FlyError("broken", 500), ProviderError, UNKNOWN, "Fly failed (broken)"),
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

"""The row of the modal provider."""

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
    SandboxNotFoundError,
    UnsupportedError,
)
from agenthost.providers.modal.provider import ModalProvider
from agenthost.testing.emulators.modal import emulator

CREATE = "SandboxCreateV2"
REFUSED, UNKNOWN = "refused", "unknown"


@asynccontextmanager
async def serve(needed: Mapping[str, Any]) -> AsyncGenerator[EmulatedWorld]:
    """Run an emulator of Modal that accepts as few tags as Modal may."""
    del needed
    async with emulator(strict_tags=True) as running:
        yield EmulatedWorld(running, CREATE)


def errors() -> tuple[Sequence[Any], Sequence[Example]]:
    """Return the table, and an example for each row."""
    import modal.exception as vendor
    from grpclib.exceptions import StreamTerminatedError

    from agenthost.providers.modal.errors import ROWS

    return ROWS, (
        Example(vendor.AlreadyExistsError("taken"), NameTakenError, "", "the name is taken"),
        Example(vendor.ConflictError("finished"), ProviderError, REFUSED, "present state"),
        Example(vendor.InvalidError("Unsupported Python version '3.13'"), ConfigError, "", "python='3.12'"),
        Example(vendor.InvalidError("no sense"), ConfigError, "", "does not accept this (no sense)"),
        Example(vendor.NotFoundError("none"), SandboxNotFoundError, "", "does not have this (none)"),
        Example(vendor.AuthError("who"), ProviderError, REFUSED, "token_id and token_secret, or MODAL_TOKEN"),
        Example(vendor.PermissionDeniedError("not you"), ProviderError, REFUSED, "does not allow this"),
        Example(vendor.ResourceExhaustedError("too much"), ProviderBusyError, REFUSED, "limits how much"),
        Example(vendor.UnimplementedError("what"), UnsupportedError, "", "does not do this (what)"),
        Example(vendor.InternalError("broken"), ProviderError, UNKNOWN, "Modal failed (broken)"),
        Example(vendor.ServiceError("away"), ProviderError, UNKNOWN, "Modal failed (away)"),
        Example(vendor.ConnectionError("unreachable"), ProviderError, UNKNOWN, "could not be reached"),
        Example(vendor.SandboxTimeoutError("over"), ProviderError, UNKNOWN, "(over)"),
        Example(vendor.ExecTimeoutError("over"), ProviderError, UNKNOWN, "(over)"),
        Example(vendor.ClientClosed("closed"), ProviderError, REFUSED, "the client is closed"),
        Example(vendor.SandboxTerminatedError("ended"), ProviderError, REFUSED, "refused this (ended)"),
        Example(vendor.DataLossError("lost"), ProviderError, REFUSED, "refused this (lost)"),
        Example(vendor.ImageBuildError("step 3 failed", "im-1"), ProviderError, REFUSED, "step 3 failed"),
        Example(StreamTerminatedError("connection lost"), ProviderError, UNKNOWN, "(connection lost)"),
        Example(ConnectionResetError("reset"), ProviderError, UNKNOWN, "(reset)"),
        # Without a row. Where warnings are errors, Modal's client trips over its own while it looks at
        # another error.
        Example(vendor.DeprecationError("will stop"), ProviderError, UNKNOWN, "client failed (will stop)"),
    )


def disown(world: World, sandbox_id: str) -> None:
    """Remove the name that agenthost gave."""
    cast("EmulatedWorld", world).emulator.box(sandbox_id).tags.pop("agenthost-name")


MODAL = Row(
    name="modal",
    make=ModalProvider,
    serve=serve,
    asyncio_only=True,
    package="modal",
    credentials={"token_id": "MODAL_TOKEN_ID", "token_secret": "MODAL_TOKEN_SECRET"},
    secrets=("token_secret",),
    wrong={"token_id": "ak-c0ffeec0ffeec0ffee0000", "token_secret": "as-c0ffeec0ffeec0ffee0000"},
    address=("server_url",),
    errors=errors,
    create=CREATE,
    tries=4,  # with one key of idempotency
    hurry=lambda provider, patch: patch.setattr(provider, "looks", (0.0, 0.05)),
    disown=disown,
    bakes={"python": "3.12"},
    longest=24 * 3600,
)

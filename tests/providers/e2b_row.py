"""The row of the e2b provider."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from providers.row import EmulatedWorld, Example, Row, World

from agenthost.errors import (
    ConfigError,
    ProviderBusyError,
    ProviderError,
    QuotaError,
    SandboxGoneError,
    SandboxNotFoundError,
    UnsupportedError,
)
from agenthost.providers.e2b.provider import E2BProvider
from agenthost.testing.emulators.e2b import emulator

CREATE = "POST /v2/sandboxes"
REFUSED, UNKNOWN = "refused", "unknown"
QUOTA = "429: maximum number of concurrent E2B sandboxes reached"
FEATURE = "400: Network transform rules are not available for your team"


@asynccontextmanager
async def serve(needed: Mapping[str, Any]) -> AsyncGenerator[EmulatedWorld]:
    """Run an emulator of E2B in which sandboxes may be made as often as the tests do."""
    del needed
    async with emulator(creates_at_once=10_000) as running:
        yield EmulatedWorld(running, CREATE)
        await running.settled()


def errors() -> tuple[Sequence[Any], Sequence[Example]]:
    """Return the table, and an example for each row."""
    import e2b
    import httpx

    from agenthost.providers.e2b.errors import ROWS

    return ROWS, (
        Example(e2b.AuthenticationException("401"), ProviderError, REFUSED, "refused the API key"),
        Example(e2b.RateLimitException("429"), ProviderBusyError, UNKNOWN, "too many requests"),
        Example(e2b.RateLimitException(QUOTA), QuotaError, REFUSED, "as many sandboxes as its plan allows"),
        Example(e2b.ServiceBusyException("503"), ProviderBusyError, UNKNOWN, "no capacity"),
        Example(e2b.SandboxNotFoundException("gone"), SandboxNotFoundError, "", "no such sandbox"),
        Example(e2b.SandboxNotRunningException("502"), SandboxGoneError, "", "not running"),
        Example(e2b.SandboxUnreachableException("cut"), ProviderError, UNKNOWN, "could not be reached"),
        Example(e2b.TimeoutException("late"), ProviderError, UNKNOWN, "did not answer in time"),
        Example(e2b.InvalidArgumentException("no"), ConfigError, "", "client does not accept this"),
        Example(e2b.NotEnoughSpaceException("507"), ProviderError, REFUSED, "disk of the sandbox is full"),
        Example(e2b.GuestUnresponsiveException("409"), ProviderError, REFUSED, "does not wake up"),
        Example(e2b.TemplateException("old"), ProviderError, REFUSED, "template is not usable"),
        Example(e2b.BuildException("step 1"), ProviderError, REFUSED, "not built"),
        Example(e2b.NotFoundException("nothing"), ProviderError, REFUSED, "does not have this"),
        Example(httpx.ReadTimeout("slow"), ProviderError, UNKNOWN, "did not answer in time"),
        Example(httpx.ConnectError("refused"), ProviderError, REFUSED, "could not be reached"),
        Example(httpx.ReadError("cut"), ProviderError, UNKNOWN, "answer of E2B was lost"),
        Example(of_status(FEATURE, 400), UnsupportedError, "", "not enabled added headers"),
        Example(of_status("400: no", 400), ConfigError, "", "does not accept this"),
        Example(of_status("403: no", 403), ProviderError, REFUSED, "does not allow this"),
        Example(of_status("404: no", 404), ConfigError, "", "does not have this"),
        Example(of_status("409: no", 409), ProviderBusyError, UNKNOWN, "cannot do this now"),
        # Without a row.
        Example(of_status("500: oh", 500), ProviderError, UNKNOWN, "client failed"),
        Example(Exception("Command ended without an end event"), ProviderError, UNKNOWN, "client failed"),
    )


def of_status(message: str, status: int) -> Exception:
    """Return the error of the client for an answer with this status."""
    import e2b

    return e2b.SandboxException(message, status_code=status)


def disown(world: World, sandbox_id: str) -> None:
    """Remove the name that agenthost gave."""
    cast("EmulatedWorld", world).emulator.box(sandbox_id).metadata.pop("agenthost-name")


E2B = Row(
    name="e2b",
    make=E2BProvider,
    serve=serve,
    asyncio_only=True,
    package="e2b",
    credentials={"api_key": "E2B_API_KEY"},
    secrets=("api_key",),
    wrong={"api_key": "e2b_" + "c0ffee" * 7},
    address=("api_url", "sandbox_url"),
    errors=errors,
    create=CREATE,
    hurry=lambda provider, patch: patch.setattr(provider, "looks", (0.0, 0.05)),
    disown=disown,
    bakes={"cpu": 4, "memory_mib": 4096, "free_disk_mib": 6000},
    longest=24 * 3600,
)

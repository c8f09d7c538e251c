"""The row of the cloudflare provider."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from providers.row import EmulatedWorld, Example, Row

from agenthost.adapter.rest import RestError
from agenthost.errors import (
    ConfigError,
    NameTakenError,
    ProviderBusyError,
    ProviderError,
    QuotaError,
    SandboxGoneError,
    SandboxNotFoundError,
)
from agenthost.http import TransportError
from agenthost.providers.cloudflare.errors import OpenWorkerError, WrongWorkerError, rows
from agenthost.providers.cloudflare.provider import CloudflareProvider
from agenthost.testing.emulators.cloudflare import emulator

SANDBOXES = "/agenthost/v1/sandboxes/"
REFUSED, UNKNOWN = "refused", "unknown"


class CloudflareWorld(EmulatedWorld):
    """The emulator of Cloudflare, in whose calls each id is replaced by the same text."""

    @property
    def calls(self) -> Sequence[str]:
        """See World."""
        return [re.sub(f"{SANDBOXES}[a-z2-7]+", f"{SANDBOXES}{{id}}", call) for call in super().calls]


@asynccontextmanager
async def serve(needed: Mapping[str, Any]) -> AsyncGenerator[CloudflareWorld]:
    """Run an emulator of Cloudflare."""
    del needed
    async with emulator() as running:
        yield CloudflareWorld(running, f"PUT {SANDBOXES}")
        await running.settled()


def errors() -> tuple[Sequence[Any], Sequence[Example]]:
    """Return the table, and an example for each row."""
    return rows(), (
        Example(RestError(503, "not_configured", "no key"), OpenWorkerError, "", "wrangler secret put"),
        Example(RestError(503, "capacity_exceeded", "full"), QuotaError, REFUSED, "max_instances"),
        Example(RestError(503, "container_unavailable", "no"), ProviderBusyError, REFUSED, "replaces"),
        Example(RestError(409, "operation_interrupted", "no"), ProviderError, UNKNOWN, "replaced"),
        Example(
            RestError(200, "", "the answer is not JSON"), WrongWorkerError, "", "agenthost cloudflare init"
        ),
        Example(RestError(302, "", "log in"), ProviderError, REFUSED, "Cloudflare Access"),
        Example(RestError(400, "invalid_request", "no"), ConfigError, "", "does not accept this"),
        Example(RestError(401, "unauthorized", "no"), ProviderError, REFUSED, "refused the key"),
        Example(RestError(403, "", "forbidden"), ProviderError, REFUSED, "Cloudflare Access"),
        Example(RestError(404, "not_found", "no"), SandboxNotFoundError, "", "no such sandbox"),
        Example(RestError(404, "", "404 Not Found"), WrongWorkerError, "", "agenthost cloudflare init"),
        Example(RestError(409, "name_taken", "no"), NameTakenError, "", "exists already"),
        Example(RestError(409, "starting", "no"), ProviderBusyError, REFUSED, "still being made"),
        Example(RestError(410, "replaced", "no"), SandboxGoneError, "", "ended or replaced"),
        Example(RestError(413, "payload_too_large", "no"), ConfigError, "", "too large"),
        Example(RestError(429, "", "slow down"), ProviderBusyError, REFUSED, "too many requests"),
        Example(RestError(502, "container_error", "broken"), ProviderError, UNKNOWN, "the Worker failed"),
        Example(TransportError("ConnectError at host"), ProviderError, REFUSED, "could not be reached"),
        Example(TransportError("ConnectTimeout at host"), ProviderError, REFUSED, "could not be reached"),
        Example(TransportError("ReadError at host"), ProviderError, UNKNOWN, "answer of Cloudflare was lost"),
    )


CLOUDFLARE = Row(
    name="cloudflare",
    make=CloudflareProvider,
    serve=serve,
    credentials={
        "worker_url": "CLOUDFLARE_SANDBOX_WORKER_URL",
        "api_key": "CLOUDFLARE_SANDBOX_API_KEY",
    },
    secrets=("api_key",),
    wrong={"worker_url": "http://127.0.0.1:9", "api_key": "c0ffee" * 10},
    address=("worker_url",),
    errors=errors,
    create=f"PUT {SANDBOXES}{{id}}",
    hurry=lambda provider, patch: patch.setattr(provider, "looks", (0.0, 0.05)),
    longest=24 * 3600,
)

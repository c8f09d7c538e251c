"""What the vendor's package needs: either of its two names, a client that reads no files, a safe create.

``daytona_sdk`` of the package ``daytona-sdk`` is a copy of ``daytona`` with classes of its own: see
docs/decisions/009.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import anyio

from agenthost.adapter.checks import require_extra
from agenthost.errors import AgentHostError, MissingCredentialError, MissingExtraError

PACKAGE, FORMER = "daytona", "daytona_sdk"
API = "https://app.daytona.io/api"
_TARGET = "us"
_DELETING = 10.0  # seconds
_TOO_NEW = (
    "the provider 'daytona' needs the package daytona below 1.0, and another version is installed. "
    "Install it: pip install 'agenthost[daytona]'"
)


def require_kit() -> None:
    """Require one of the two packages, without importing it. Raises MissingExtraError."""
    if importlib.util.find_spec(FORMER) is None:
        require_extra(PACKAGE, "daytona")


def import_kit() -> Any:
    """Return the vendor's package. The first time takes seconds: call it in a thread.

    Raises:
        MissingExtraError: A version is installed that has another interface.
    """
    name = PACKAGE if importlib.util.find_spec(PACKAGE) is not None else FORMER
    kit = importlib.import_module(name)
    try:
        assert kit.AsyncDaytona is not None  # the package imports its parts when they are named
        assert kit.CreateSandboxFromSnapshotParams is not None
    except (AttributeError, ImportError):
        raise MissingExtraError(_TOO_NEW) from None
    return kit


def settings(
    api_key: str | None,
    jwt_token: str | None,
    organization_id: str | None,
    api_url: str | None,
    target: str | None,
) -> dict[str, str]:
    """Return the fields of the client's configuration, with what the environment adds.

    Every field is set: for one that is missing the client reads ``.env`` in the current directory, and a file
    there would choose the account or the region.

    Raises:
        MissingCredentialError: There is neither a key nor a token with its organization.
    """
    env = os.environ
    where = {
        "api_url": api_url or env.get("DAYTONA_API_URL") or API,
        "target": target or env.get("DAYTONA_TARGET") or _TARGET,
    }
    key = api_key or (None if jwt_token else env.get("DAYTONA_API_KEY"))
    if key:
        return {"api_key": key, **where}
    token = jwt_token or env.get("DAYTONA_JWT_TOKEN")
    organization = organization_id or env.get("DAYTONA_ORGANIZATION_ID")
    if not (token and organization):
        raise MissingCredentialError(
            "the daytona provider needs a credential: give api_key=..., or set DAYTONA_API_KEY; or give "
            "jwt_token=... and organization_id=..., or set DAYTONA_JWT_TOKEN and DAYTONA_ORGANIZATION_ID"
        )
    return {"jwt_token": token, "organization_id": organization, **where}


def open_client(kit: Any, fields: Mapping[str, str]) -> Any:
    """Return a client, which belongs to the running event loop and must be closed."""

    class Client(kit.AsyncDaytona):  # type: ignore[misc]
        def _init_otel(self, sdk_version: str) -> None:
            """Trace nothing: a file in the current directory may ask for tracing of the whole process."""

    with warnings.catch_warnings():
        # A file in the current directory names another API: it is not followed, which is right.
        warnings.simplefilter("ignore", UserWarning)
        return Client(kit.DaytonaConfig(**fields))


async def create_or_adopt(client: Any, params: Any, times: tuple[float, float]) -> Any:
    """Return a new sandbox that has started; or leave none.

    The client's ``create`` that takes too long leaves a sandbox, and states its id: it gets more time.

    Args:
        client: The client.
        params: What the client's ``create`` takes.
        times: Seconds for ``create``, and then for a sandbox that is still starting.
    """
    kit = import_kit()
    try:
        return await client.create(params, timeout=times[0])
    except kit.DaytonaTimeoutError as error:
        if error.sandbox_id is None:
            raise
        made = await client.get(error.sandbox_id)
    try:
        await made.wait_for_sandbox_start(timeout=times[1])
    except BaseException:
        with anyio.move_on_after(_DELETING, shield=True), suppress(AgentHostError, kit.DaytonaError):
            await made.delete(timeout=_DELETING, wait=True)
        raise
    return made

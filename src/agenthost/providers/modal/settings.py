"""Who asks Modal, where, and how long each call may take."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass, field

import anyio

from agenthost.errors import MissingCredentialError, MissingExtraError, UnsupportedError

APP = "agenthost"
PYTHON = "3.13"  # of images: Modal's client would take this host's own, which its builder may not have


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a provider was opened with.

    Attributes:
        token_id, token_secret: The credential; the secret is in no repr.
        app: Name of Modal's app that the sandboxes belong to.
        environment: Modal's environment; None is the workspace's default.
        server_url: Of Modal's API; None is Modal's own.
        python: Version of Python in images that we make.
        runtime: What keeps sandboxes apart, in Modal's words.
    """

    token_id: str
    token_secret: str = field(repr=False)
    app: str = APP
    environment: str | None = None
    server_url: str | None = None
    python: str = PYTHON
    runtime: str = "gvisor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Seconds that calls may take. Modal's client itself waits for a minute, or for ever when throttled.

    Attributes:
        call: One that looks something up.
        create: One that makes a sandbox whose image is there.
        build: One that makes an image.
        snapshot: One that keeps a file system.
        end: One that ends a sandbox, until it has ended.
        send: Until a program has taken what was written to its stdin.
        close: Closing one carrier, or the client.
        looks: When a sandbox is looked for whose create had no answer, each after the one before.
    """

    call: float = 30.0
    create: float = 120.0
    build: float = 1800.0
    snapshot: float = 300.0
    end: float = 20.0
    send: float = 30.0
    close: float = 3.0
    looks: tuple[float, ...] = (0.0, 0.3, 1.0)


def find_settings(
    *,
    token_id: str | None,
    token_secret: str | None,
    app: str,
    environment: str | None,
    server_url: str | None,
    python: str,
    runtime: str,
) -> Settings:
    """Complete what was given with Modal's own environment variables.

    Raises:
        MissingCredentialError: A part of the credential is nowhere.
        MissingExtraError: Modal's client is not installed.
    """
    if importlib.util.find_spec("modal") is None:
        raise MissingExtraError(
            "the modal provider needs Modal's client. Install it: pip install 'agenthost[modal]'"
        )
    found_id = token_id or os.environ.get("MODAL_TOKEN_ID")
    found_secret = token_secret or os.environ.get("MODAL_TOKEN_SECRET")
    if not found_id or not found_secret:
        raise MissingCredentialError(
            "no credential for Modal: give token_id and token_secret, or set MODAL_TOKEN_ID and "
            "MODAL_TOKEN_SECRET (a profile in ~/.modal.toml is not read)"
        )
    return Settings(
        token_id=found_id,
        token_secret=found_secret,
        app=app,
        environment=environment or os.environ.get("MODAL_ENVIRONMENT") or None,
        server_url=server_url or os.environ.get("MODAL_SERVER_URL") or None,
        python=python,
        runtime=runtime,
    )


def refuse_trio() -> None:
    """Refuse to be used on trio: Modal's client works on asyncio alone.

    Raises:
        UnsupportedError: Before any call.
    """
    if anyio.get_cancelled_exc_class().__module__.partition(".")[0] == "trio":
        raise UnsupportedError("the modal provider works on asyncio, as Modal's client does, and not on trio")

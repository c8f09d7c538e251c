"""What a provider was opened with, and how long each of its calls may take."""

from __future__ import annotations

from dataclasses import dataclass, field

APP = "agenthost"
PYTHON = "3.13"  # of images: Modal's client would take the host's own, which the image builder may not have


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a provider was opened with.

    Attributes:
        token_id, token_secret: The credential; the secret is not in the repr.
        app: Name of Modal's app that the sandboxes belong to.
        environment: Modal's environment; None is the workspace's default.
        server_url: Of Modal's API; None is Modal's own.
        python: Version of Python in images that the provider makes.
        runtime: What isolates sandboxes, in Modal's words.
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
        call: A call that looks something up.
        create: A call that makes a sandbox whose image exists.
        build: A call that makes an image.
        snapshot: A call that keeps a file system.
        end: Ending a sandbox, until it has ended.
        send: Until a program has accepted what was written to its stdin.
        close: Closing one carrier, or the client.
    """

    call: float = 30.0
    create: float = 120.0
    build: float = 1800.0
    snapshot: float = 300.0
    end: float = 20.0
    send: float = 30.0
    close: float = 3.0

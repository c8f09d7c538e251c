"""The deployment secret: every token is derived from it."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from agenthost.errors import ConfigError
from agenthost.statedir import state_directory

_MINIMUM = 16  # bytes; below that a token could be guessed from one guest's verifier


def deployment_secret(secret: str | bytes | None = None) -> bytes:
    """Return ``secret``, else ``AGENTHOST_SECRET``, else 32 random bytes kept in the state directory.

    Raises:
        ConfigError: The secret is shorter than 16 bytes, or cannot be kept.
    """
    given = secret if secret is not None else os.environ.get("AGENTHOST_SECRET") or None
    if given is not None:
        value = given.encode() if isinstance(given, str) else given
        _check(value, "the deployment secret")
        return value
    path = state_directory() / "secret"
    try:
        kept = _kept(path)
    except OSError as exc:
        raise ConfigError(
            f"the deployment secret cannot be kept in {path}: {exc.strerror}; "
            "set AGENTHOST_STATE_DIR to a directory that can be written, or AGENTHOST_SECRET"
        ) from exc
    _check(kept, f"what {path} holds of the deployment secret")
    return kept


def _check(value: bytes, what: str) -> None:
    if len(value) < _MINIMUM:
        raise ConfigError(f"{what} is shorter than {_MINIMUM} bytes")


def _kept(path: Path) -> bytes:
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    value = secrets.token_hex(32).encode()
    temporary = path.with_name(f".secret-{secrets.token_hex(8)}")
    temporary.touch(mode=0o600)
    try:
        temporary.write_bytes(value)
        os.link(temporary, path)  # the first of several processes wins, and the file is whole when it appears
    except FileExistsError:
        return path.read_bytes()
    finally:
        temporary.unlink()
    return value

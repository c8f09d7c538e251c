"""Which key is used, where it comes from, and that it is never shown."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

from agenthost.errors import ConfigError, MissingCredentialError, UnsupportedError
from agenthost.spec import HeaderInjection, NetworkPolicy

Credentials = Literal["host", "env", "provider", "gateway"]

PLACEHOLDER = "sk-ant-added-by-the-provider"

_DEFAULT_URL = "https://api.anthropic.com"
_KEY, _TOKEN, _URL = "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL"
_HEADERS = "ANTHROPIC_CUSTOM_HEADERS"
# Ways to a model for which the host has no stand-in.
_FOREIGN = (
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_VERTEX",
    "CLAUDE_CODE_USE_FOUNDRY",
)


class ModelAccess:
    """Where model requests go, and with what headers. Its repr shows the host's name alone."""

    __slots__ = ("_headers", "base_url")

    def __init__(self, base_url: str, headers: tuple[tuple[str, str], ...]) -> None:
        self.base_url = base_url.rstrip("/")
        self._headers = headers

    def __repr__(self) -> str:
        return f"<ModelAccess {urlsplit(self.base_url).hostname}>"

    def headers(self) -> tuple[tuple[str, str], ...]:
        """Return the credential and whatever headers belong to it."""
        return self._headers


def take_model_access(env: dict[str, str]) -> ModelAccess:
    """Take the credential out of ``env``, the agent's environment, else find it in the host's.

    Raises:
        MissingCredentialError: There is none.
        ConfigError: The options name another way to a model, which would need its secret inside.
    """
    foreign = [name for name in _FOREIGN if env.get(name)]
    if foreign:
        raise ConfigError(
            f"{', '.join(foreign)} in options.env: with credentials='host' the secret stays on the host, "
            "which can add only an Anthropic API key or token; use credentials='env'"
        )
    own = {name: env.pop(name) for name in (_KEY, _TOKEN, _URL, _HEADERS) if name in env}
    # What the options say comes before what the host's environment says, as on a laptop.
    source: Mapping[str, str] = own if own.get(_KEY) or own.get(_TOKEN) else os.environ
    headers: list[tuple[str, str]] = []
    if key := source.get(_KEY):
        headers.append(("x-api-key", key))
    elif token := source.get(_TOKEN):
        headers.append(("authorization", f"Bearer {token}"))
    else:
        raise MissingCredentialError(
            f"no key for the model: set {_KEY} (or {_TOKEN}) in the environment of this process, or in "
            "ClaudeAgentOptions.env, from where it is taken and does not enter the sandbox"
        )
    headers.extend(_custom_headers(own.get(_HEADERS, os.environ.get(_HEADERS, ""))))
    return ModelAccess(own.get(_URL) or os.environ.get(_URL) or _DEFAULT_URL, tuple(headers))


def put_key_inside(env: dict[str, str]) -> None:
    """Complete ``env`` for credentials="env": the agent can read the key.

    Raises:
        MissingCredentialError: There is none.
    """
    for name in (_KEY, _TOKEN, _URL, _HEADERS):
        if name not in env and os.environ.get(name):
            env[name] = os.environ[name]
    if not any(env.get(name) for name in (_KEY, _TOKEN, *_FOREIGN)):
        raise MissingCredentialError(
            f"no key for the model: set {_KEY} in the environment of this process or in "
            "ClaudeAgentOptions.env; with credentials='env' it is put into the sandbox"
        )


def let_provider_add(env: dict[str, str]) -> tuple[HeaderInjection, ...]:
    """Complete ``env`` for credentials="provider", and return what the provider has to add to requests.

    Raises:
        MissingCredentialError: There is none.
        ConfigError: As of ``take_model_access``.
    """
    access = take_model_access(env)
    parts = urlsplit(access.base_url)
    host = parts.hostname
    if host is None:
        raise ConfigError(f"{_URL} names no host")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            f"{_URL} holds a user or a password, which the agent would read: with credentials='provider' the "
            "address is put into the sandbox. Use credentials='host'"
        )
    env[_URL] = access.base_url
    names = {name for name, _ in access.headers()}
    # The CLI asks nothing without one; the provider replaces it.
    env[_KEY if "x-api-key" in names else _TOKEN] = PLACEHOLDER
    return tuple(HeaderInjection(host=host, header=name, secret=value) for name, value in access.headers())


def check_credentials(credentials: str) -> None:
    """Refuse ways that are not there."""
    if credentials == "gateway":
        raise UnsupportedError("credentials='gateway' is not there yet; use 'host', 'provider' or 'env'")
    if credentials not in ("host", "env", "provider"):
        raise ConfigError(f"credentials={credentials!r}: known are 'host', 'provider' and 'env'")


def check_headers(credentials: str, able: bool, name: str) -> None:
    """Refuse to rely on a provider that adds no headers."""
    if credentials == "provider" and not able:
        raise UnsupportedError(
            f"credentials='provider': {name} adds no headers to requests; use credentials='host', which "
            "keeps the key on this machine, too"
        )


def check_reach(credentials: str, network: NetworkPolicy | None, default: str, name: str) -> None:
    """Refuse an agent whose key is inside a sandbox from which no model can be reached."""
    if credentials != "host" and (default if network is None else network.mode) == "none":
        raise ConfigError(
            f"credentials={credentials!r} needs a network in the sandbox, and this one on {name} has "
            "none: give spec=SandboxSpec(network=NetworkPolicy.open()), or use credentials='host', which "
            "needs none"
        )


def _custom_headers(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip():
            found.append((name.strip().lower(), value.strip()))
    return found

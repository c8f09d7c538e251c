"""Which key is used, where it comes from, and that it is never shown."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

from agenthost.errors import ConfigError, MissingCredentialError, UnsupportedError
from agenthost.spec import HeaderInjection, NetworkPolicy

Credentials = Literal["host", "env", "provider"]

PLACEHOLDER = "sk-ant-added-by-the-provider"

_DEFAULT_URL = "https://api.anthropic.com"
_KEY, _TOKEN, _URL = "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL"
_HEADERS = "ANTHROPIC_CUSTOM_HEADERS"
_OAUTH = "CLAUDE_CODE_OAUTH_TOKEN"
# Ways to a model for which the host has no stand-in. The CLI takes one of them where its variable is on.
_FOREIGN = (
    "CLAUDE_CODE_USE_ANTHROPIC_AWS",
    "CLAUDE_CODE_USE_ANTHROPIC_GOOGLE_CLOUD",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_USE_GATEWAY",
    "CLAUDE_CODE_USE_MANTLE",
    "CLAUDE_CODE_USE_VERTEX",
)
# Variables that lead to a model, with its credential or without.
MODEL_VARIABLES = (_KEY, _TOKEN, _URL, _HEADERS, _OAUTH, *_FOREIGN)
_OFF = frozenset({"", "0", "false", "no", "off"})
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")


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


def take_model_access(env: dict[str, str], *, has_helper: bool = False) -> ModelAccess:
    """Take the credential out of ``env``, the agent's environment, else find it in the host's.

    Args:
        env: The agent's environment.
        has_helper: Whether the agent's settings name a program that prints the key.

    Raises:
        MissingCredentialError: There is none.
        ConfigError: The options name another way to a model, or a value is not one that HTTP can carry. The
            message names the variable, never its value.
    """
    inside = [name for name in (*_FOREIGN, _OAUTH) if _is_on(env.get(name, ""))]
    if inside:
        raise ConfigError(
            f"{', '.join(inside)} in options.env: with credentials='host' the secret stays on the host, "
            "which can add only an Anthropic API key or token; use credentials='env'"
        )
    own = {name: env.pop(name) for name in (_KEY, _TOKEN, _URL, _HEADERS) if name in env}
    # What the options say comes before what the host's environment says, as on a laptop.
    source: Mapping[str, str] = own if own.get(_KEY) or own.get(_TOKEN) else os.environ
    headers: list[tuple[str, str]] = []
    if key := source.get(_KEY, "").strip():
        headers.append(("x-api-key", _header_value(_KEY, key)))
    if token := source.get(_TOKEN, "").strip():
        headers.append(("authorization", f"Bearer {_header_value(_TOKEN, token)}"))
    if not headers:
        raise MissingCredentialError(_missing_credential(has_helper))
    headers.extend(_custom_headers(own.get(_HEADERS, os.environ.get(_HEADERS, ""))))
    url = (own.get(_URL) or os.environ.get(_URL) or _DEFAULT_URL).strip()
    _check_url(url)
    return ModelAccess(url, tuple(headers))


def refuse_other_services(env: Mapping[str, str]) -> None:
    """Refuse a host whose environment sends a bare CLI elsewhere, unless the options decide.

    Raises:
        ConfigError: It names the variables, and both ways on.
    """
    outside = [name for name in _FOREIGN if name not in env and _is_on(os.environ.get(name, ""))]
    if outside:
        off = ", ".join(f'"{name}": "0"' for name in outside)
        raise ConfigError(
            f"{', '.join(outside)} in this process's environment sends the claude CLI to another service "
            "than Anthropic's API. To use that service, give its variables in options.env, with "
            f"credentials='env'. To use Anthropic's API instead, set options.env={{{off}}}"
        )


def _is_on(value: str) -> bool:
    return value.strip().lower() not in _OFF


def _missing_credential(has_helper: bool) -> str:
    text = (
        f"no key for the model: set {_KEY} (or {_TOKEN}) in the environment of this process, or in "
        "ClaudeAgentOptions.env, from where it is taken and does not enter the sandbox"
    )
    if os.environ.get(_OAUTH):
        text += f". {_OAUTH} is set, which only the CLI itself can use: give credentials='env' for it"
    if has_helper:
        text += (
            ". The apiKeyHelper of options.settings is run by the CLI, in the sandbox: run it here and set "
            "what it prints, or give credentials='env', with which the key is inside"
        )
    return text


def _header_value(variable: str, value: str) -> str:
    """Return the value, or refuse what an HTTP header cannot carry; its text is never quoted."""
    for position, character in enumerate(value, 1):
        if ord(character) > 0xFF or (ord(character) < 0x20 and character != "\t") or ord(character) == 0x7F:
            raise ConfigError(
                f"{variable} holds a character that an HTTP header cannot carry: U+{ord(character):04X} at "
                f"character {position} of {len(value)}"
            )
    return value


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ConfigError(
            f"{_URL} is not a valid URL: it must begin with http:// or https:// and name a host; a port is a "
            "number from 1 to 65535"
        )


def put_key_inside(env: dict[str, str], *, has_helper: bool = False) -> None:
    """Complete ``env`` for credentials="env": the agent can read the key. Needs none where it has a helper.

    Raises:
        MissingCredentialError: There is none.
    """
    for name in (_KEY, _TOKEN, _URL, _HEADERS):
        if name not in env and os.environ.get(name):
            env[name] = os.environ[name]
    if _OAUTH not in env and os.environ.get(_OAUTH) and not (env.get(_KEY) or env.get(_TOKEN)):
        env[_OAUTH] = os.environ[_OAUTH]
    has_secret = any(env.get(name) for name in (_KEY, _TOKEN, _OAUTH))
    if not has_secret and not has_helper and not any(_is_on(env.get(name, "")) for name in _FOREIGN):
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
    if "x-api-key" in names:
        env[_KEY] = PLACEHOLDER
    if "authorization" in names:
        env[_TOKEN] = PLACEHOLDER
    return tuple(HeaderInjection(host=host, header=name, secret=value) for name, value in access.headers())


def check_credentials(credentials: str) -> None:
    """Refuse ways that are not there."""
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
    for number, line in enumerate(text.splitlines(), 1):
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            continue
        if not _HEADER_NAME.match(name.strip()):
            raise ConfigError(f"{_HEADERS}: line {number} has no valid name of an HTTP header")
        found.append((name.strip().lower(), _header_value(_HEADERS, value.strip())))
    return found

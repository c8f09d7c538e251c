"""What is asked for and cannot be: refused by name, before anything is made."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import fields

import anyio

from agenthost.errors import ConfigError, MissingCredentialError, MissingExtraError, UnsupportedError
from agenthost.sandbox import Capabilities
from agenthost.spec import SandboxSpec

_HIGHEST_PORT = 65535


def refuse_incapable(spec: SandboxSpec, able: Capabilities, provider: str) -> None:
    """Refuse policies and caps that the capabilities do not have. Every GuestProvider does.

    Raises:
        UnsupportedError: It names the field.
    """
    if spec.network is not None and spec.network.mode not in able.networks:
        raise UnsupportedError(f"network={spec.network.mode}: the {provider} provider cannot enforce it")
    for field in fields(spec.limits):
        if getattr(spec.limits, field.name) is not None and field.name not in able.limits:
            raise UnsupportedError(f"limits.{field.name}: the {provider} provider cannot enforce it")
    if spec.mounts and not able.mounts:
        raise UnsupportedError(f"mounts: the {provider} provider has none")
    if spec.inject and not able.header_injection:
        raise UnsupportedError(f"inject: the {provider} provider adds no headers; use credentials='host'")
    if spec.lease is not None and not able.lease:
        raise UnsupportedError(f"lease={spec.lease!r}: the {provider} provider cannot extend one")


def refuse_fields(spec: SandboxSpec, provider: str, *names: str) -> None:
    """Refuse fields of a spec that a provider has no use for, ``image`` or ``region`` for instance.

    Raises:
        UnsupportedError: One of them is not None.
    """
    for name in names:
        if getattr(spec, name) is not None:
            raise UnsupportedError(
                f"{name}={getattr(spec, name)!r}: the {provider} provider has no such thing"
            )


def refuse_options(spec: SandboxSpec, provider: str, known: Sequence[str] = ()) -> None:
    """Refuse provider options that are not known.

    Raises:
        ConfigError: It names the first and lists those that are known.
    """
    for key in spec.provider_options:
        if key not in known:
            names = ", ".join(known) or "none"
            raise ConfigError(f"provider_options has {key!r}; the {provider} provider knows: {names}")


def check_port(port: int) -> None:
    """Refuse what is no number of a TCP port.

    Raises:
        ConfigError: It is none.
    """
    if type(port) is not int or not 1 <= port <= _HIGHEST_PORT:  # True is an int, too
        raise ConfigError(f"port {port!r}: a TCP port is a number from 1 to {_HIGHEST_PORT}")


def require_extra(package: str, provider: str) -> None:
    """Require the vendor's package. Without importing it, which may take seconds.

    Raises:
        MissingExtraError: It is not installed; the message holds the command.
    """
    if importlib.util.find_spec(package) is None:
        raise MissingExtraError(
            f"provider {provider!r} needs a package that is not installed. "
            f"Install it: pip install 'agenthost[{provider}]'"
        )


def credential(provider: str, **given: tuple[str | None, str]) -> list[str]:
    """Return credentials: each as given, else from its environment variable.

    Args:
        provider: The provider's name, for the message.
        given: By the name of the parameter, its value and the variable: ``api_key=(api_key, "E2B_API_KEY")``.

    Raises:
        MissingCredentialError: One has neither; the message names all parameters and variables.
    """
    found = [value or os.environ.get(variable) for value, variable in given.values()]
    values = [value for value in found if value]
    if len(values) < len(given):
        parameters = " and ".join(f"{name}=..." for name in given)
        variables = " and ".join(variable for _, variable in given.values())
        raise MissingCredentialError(
            f"the {provider} provider needs a credential: give {parameters}, or set {variables}"
        )
    return values


def refuse_trio(provider: str) -> None:
    """Refuse the event loop of trio, for a vendor's client that works on asyncio alone.

    Raises:
        UnsupportedError: Called on trio. Outside every event loop nothing is refused.
    """
    try:
        cancelled = anyio.get_cancelled_exc_class()
    except RuntimeError:  # anyio's own NoEventLoopError is one
        return
    if cancelled.__module__.partition(".")[0] == "trio":
        raise UnsupportedError(
            f"the {provider} provider cannot run on trio: its vendor's client works on asyncio alone. "
            "Use anyio.run(main, backend='asyncio')"
        )

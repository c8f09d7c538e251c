"""Providers by name: only strings are kept, and a provider's module is imported when it is used first.

A name is looked up among what this program has registered, then among the entry points of the installed
distributions (group ``agenthost.providers``), then among our own.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Self, cast

from agenthost.errors import (
    AgentHostError,
    ConfigError,
    MissingCredentialError,
    MissingExtraError,
    UnknownProviderError,
)
from agenthost.sandbox import SandboxProvider

ENTRY_POINTS = "agenthost.providers"

_log = logging.getLogger("agenthost.registry")

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\Z")
_TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What a name stands for.

    Attributes:
        target: ``module:attribute``, a function or class that makes the provider.
        extra: What pip installs where packages are missing, as pip is told.
        kind: Who said so.
        distribution: Of an entry point, its name and version.
    """

    name: str
    target: str
    extra: str | None = None
    kind: Literal["built-in", "entry point", "registered"] = "built-in"
    distribution: str | None = None

    def __str__(self) -> str:
        if self.kind == "entry point":
            return f"entry point {self.name!r} ({ENTRY_POINTS}) of {self.distribution}"
        return f"{self.kind} provider {self.name!r} ({self.target})"


class ProviderName(str):
    """A provider's name that brings along the options it is to be opened with.

    It goes wherever a name goes: ``HostedAgent(provider=...)``, ``open_provider``, ``prewarm``. Options may
    be secret and are not shown.
    """

    __slots__ = ("options",)

    options: Mapping[str, object]

    def __new__(cls, name: str, options: Mapping[str, object] | None = None) -> Self:
        """Return the name."""
        made = super().__new__(cls, name)
        made.options = dict(options or {})
        return made

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the options in copies."""
        return (ProviderName, (str(self), dict(self.options)))


_BUILT_IN = {
    registration.name: registration
    for registration in (
        Registration(name="local", target="agenthost.providers.local.provider:LocalProvider"),
        Registration(
            name="local-unisolated", target="agenthost.providers.local.local_unisolated:UnisolatedProvider"
        ),
        Registration(name="docker", target="agenthost.providers.docker.provider:DockerProvider"),
        Registration(name="fly", target="agenthost.providers.fly.provider:FlyProvider"),
        Registration(
            name="e2b", target="agenthost.providers.e2b.provider:E2BProvider", extra="agenthost[e2b]"
        ),
        Registration(
            name="modal", target="agenthost.providers.modal.provider:ModalProvider", extra="agenthost[modal]"
        ),
        Registration(name="cloudflare", target="agenthost.providers.cloudflare.provider:CloudflareProvider"),
        Registration(
            name="daytona",
            target="agenthost.providers.daytona.provider:DaytonaProvider",
            extra="agenthost[daytona]",
        ),
        Registration(name="vercel", target="agenthost.providers.vercel.provider:VercelProvider"),
    )
}

_registered: dict[str, Registration] = {}
# Each way in which this process has opened a provider; whoever ends its sandboxes opens it in the same.
_opened: dict[str, list[Mapping[str, object]]] = {}


def register_provider(name: str, target: str, *, extra: str | None = None, replace: bool = False) -> None:
    """Make a provider known by a name, for this process. Nothing is imported before its first use.

    Args:
        name: Lower-case letters, digits and single dashes.
        target: ``module:attribute``: a class or function that returns the provider when it is called with
            its options as keywords. See ``SandboxProvider``.
        extra: What to install where an import fails, as pip is told: ``acme-sandbox[http]``.
        replace: It may take the place of another one of this name.

    Raises:
        ConfigError: The name or the target has another form, or the name is taken.
    """
    if not _NAME.match(name):
        raise ConfigError(f"provider name {name!r}: use lower-case letters, digits and single dashes")
    # Also for callers without types: an object is given as provider= and needs no name.
    if not isinstance(cast("object", target), str) or not _TARGET.match(target):
        raise ConfigError(
            f"target of provider {name!r} is {target!r}; it must be text of the form 'module:attribute'"
        )
    taken = _find(name)
    if taken is not None and not replace:
        raise ConfigError(f"the name {name!r} is taken: {taken}. Choose another one, or say replace=True")
    _registered[name] = Registration(name=name, target=target, extra=extra, kind="registered")


def provider_names() -> tuple[str, ...]:
    """Return the names that ``open_provider`` takes."""
    return tuple(sorted({*_registered, *_entry_points(), *_BUILT_IN}))


def registration(name: str) -> Registration:
    """Return what a name stands for, without importing it.

    Raises:
        UnknownProviderError: No provider has this name; the message lists those that exist.
        ConfigError: Two distributions have it.
    """
    found = _find(name)
    if found is None:
        known = provider_names()
        close = difflib.get_close_matches(name.lower().replace("_", "-"), known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise UnknownProviderError(f"there is no provider {name!r}.{hint} Known are: {', '.join(known)}")
    return found


def load_provider(name: str) -> Any:
    """Import what makes a provider: a class or a function.

    Raises:
        UnknownProviderError: No provider has this name.
        MissingExtraError: A package is not installed; the message holds the command.
        ConfigError: What the name stands for cannot be imported; it names the distribution it is of.
    """
    found = registration(name)
    module, _, attribute = found.target.partition(":")
    try:
        made: object = importlib.import_module(module)
        for part in attribute.split("."):
            made = getattr(made, part)
    except AgentHostError:
        raise  # it says itself what is wrong
    except Exception as error:
        if found.extra is not None and _is_missing_package(error, module):
            raise MissingExtraError(
                f"provider {name!r} needs a package that is not installed ({error}). "
                f"Install it: pip install '{found.extra}'"
            ) from error
        raise _broken(found, error) from error
    if not callable(made):
        raise _broken(found, TypeError(f"{found.target} is a {type(made).__name__} and cannot be called"))
    return made


def open_provider(name: str, **options: object) -> SandboxProvider:
    """Return a provider to be used as ``async with``: the links to its sandboxes live in that block.

    Where there is no block, ``await provider.connect()`` opens it and ``await provider.aclose()`` closes it.
    Either way, it may be closed in another task than the one that opened it.

    Args:
        name: A name that is registered, an entry point's or one of ours. One from a config brings its
            options along.
        options: The provider's own; a wrong one is a TypeError.

    Raises:
        UnknownProviderError: No provider has this name; the message lists those that exist.
        MissingExtraError: A package is not installed; the message holds the command.
        MissingCredentialError: An option is missing that the provider requires; the message names it.
        ConfigError: It is broken; the message names the distribution that it is of.
    """
    factory = load_provider(name)
    given = {**options_of(name), **options}
    missing = [option for option in _required(factory) if option not in given]
    if missing:
        words = ", ".join(missing)
        raise MissingCredentialError(
            f"provider {str(name)!r} requires the option{'s' * (len(missing) > 1)} {words}: set "
            f"{'it' if len(missing) == 1 else 'them'} in [providers.{name}] of a config, or as arguments of "
            "open_provider"
        )
    opened = cast("SandboxProvider", factory(**given))
    ways = _opened.setdefault(str(name), [])
    if given not in ways:
        ways.append(given)
    return opened


def _required(factory: Any) -> list[str]:
    """Return the options without which a provider cannot be made."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # written in C, perhaps: it says itself what is missing
        return []
    keywords = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [one.name for one in parameters if one.kind in keywords and one.default is one.empty]


def options_of(name: str) -> Mapping[str, object]:
    """Return the options that a name brings along."""
    return name.options if isinstance(name, ProviderName) else {}


def ways_opened(name: str) -> tuple[Mapping[str, object], ...]:
    """Return each set of options with which this process has opened a provider, in that order."""
    return tuple(_opened.get(name, ()))


def _find(name: str) -> Registration | None:
    if name in _registered:
        return _registered[name]
    found = _entry_points().get(name, ())
    if len(found) > 1:
        raise ConfigError(
            f"there is more than one provider {name!r}: {'; '.join(map(str, found))}. Uninstall all but one, "
            "or choose with agenthost.register_provider(name, target, replace=True)"
        )
    return found[0] if found else _BUILT_IN.get(name)


@cache
def _entry_points() -> Mapping[str, tuple[Registration, ...]]:
    """Read what the installed distributions announce: names and strings, nothing is imported."""
    from importlib.metadata import entry_points

    found: dict[str, tuple[Registration, ...]] = {}
    for point in entry_points(group=ENTRY_POINTS):
        distribution, extra = "an unknown distribution", None
        if point.dist is not None:
            distribution = f"{point.dist.name} {point.dist.version}"
            extra = f"{point.dist.name}[{','.join(point.extras)}]" if point.extras else None
        one = Registration(
            name=point.name,
            target=f"{point.module}:{point.attr}",
            extra=extra,
            kind="entry point",
            distribution=distribution,
        )
        found[point.name] = (*found.get(point.name, ()), one)
        if point.name in _BUILT_IN:
            _log.warning("%s takes the place of our own provider of this name", one)
    return found


def _is_missing_package(error: Exception, module: str) -> bool:
    """Tell whether something else is missing than the target itself, for which no package would help."""
    missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
    return missing is not None and missing.partition(".")[0] not in ("agenthost", module.partition(".")[0])


def _broken(found: Registration, error: Exception) -> ConfigError:
    return ConfigError(f"the {found} cannot be loaded: {type(error).__name__}: {error}")

"""Providers by name. A provider's module is imported when it is opened, not before."""

from __future__ import annotations

import difflib
import importlib
from contextlib import AbstractAsyncContextManager
from typing import cast

from agenthost.errors import UnknownProviderError
from agenthost.sandbox import SandboxProvider

_BUILT_IN = {
    "local": "agenthost.providers.local.provider:LocalProvider",
    "local-unisolated": "agenthost.providers.local.local_unisolated:UnisolatedProvider",
}


def provider_names() -> tuple[str, ...]:
    """Return the names that ``open_provider`` takes."""
    return tuple(sorted(_BUILT_IN))


def open_provider(name: str, **options: object) -> AbstractAsyncContextManager[SandboxProvider]:
    """Return a provider to be used as ``async with``: the links to its sandboxes live in that block.

    Args:
        name: A registered name.
        options: The provider's own; a wrong one is a TypeError.

    Raises:
        UnknownProviderError: No provider has this name; the message lists those that exist.
    """
    target = _BUILT_IN.get(name)
    if target is None:
        close = difflib.get_close_matches(name, _BUILT_IN, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise UnknownProviderError(
            f"there is no provider {name!r}.{hint} Known are: {', '.join(provider_names())}"
        )
    module, _, attribute = target.partition(":")
    factory = getattr(importlib.import_module(module), attribute)
    return cast("AbstractAsyncContextManager[SandboxProvider]", factory(**options))

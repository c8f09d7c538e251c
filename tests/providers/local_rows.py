"""The rows of the providers ``local`` and ``local-unisolated``, whose sandboxes are this machine's."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NoReturn

from providers.row import Row

from agenthost.providers.local.local_unisolated import UnisolatedProvider
from agenthost.providers.local.provider import LocalProvider


class LocalWorld:
    """A state directory. There is nobody to call, and so no call that could go wrong."""

    calls: Sequence[str] = ()
    unknown: Sequence[str] = ()

    def __init__(self, directory: str, name: str) -> None:
        self.options = {"state_dir": directory}
        self._sandboxes = os.path.join(directory, name)

    async def running(self) -> list[str]:
        """Return whatever is there, complete or not."""
        try:
            return os.listdir(self._sandboxes)
        except FileNotFoundError:
            return []

    def _no_call(self, *_args: object, **_options: object) -> NoReturn:
        raise NotImplementedError("a row with create=None has no call that could go wrong")

    lose_answer = drop = hold = _no_call

    def clear(self) -> None:
        """Nothing goes wrong."""


def served(name: str) -> Callable[[Mapping[str, Any]], AbstractAsyncContextManager[LocalWorld]]:
    """Return how a provider's state directory is made."""

    @asynccontextmanager
    async def serve(needed: Mapping[str, Any]) -> AsyncGenerator[LocalWorld]:
        del needed
        with tempfile.TemporaryDirectory(prefix="providers-") as directory:
            yield LocalWorld(directory, name)

    return serve


LOCAL = Row(name="local", make=LocalProvider, serve=served("local"))
UNISOLATED = Row(
    name="local-unisolated",
    make=UnisolatedProvider,
    serve=served("local-unisolated"),
)

"""Mistakes of several steps, raised as one error."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from agenthost.errors import ConfigError


class Collected:
    """Collects ConfigErrors. Each line of a message is a mistake with its place."""

    def __init__(self) -> None:
        self._kinds: dict[str, type[ConfigError]] = {}

    def __len__(self) -> int:
        """Return how many mistakes there are."""
        return len(self._kinds)

    @contextmanager
    def step(self) -> Generator[None]:
        """Keep a ConfigError of this block, and go on behind it."""
        try:
            yield
        except ConfigError as error:
            for line in str(error).splitlines():
                self._kinds.setdefault(line, type(error))

    def require(self) -> None:
        """Raise all that was collected, sorted: as the one class that all have, else as ConfigError."""
        if self._kinds:
            kinds = set(self._kinds.values())
            raise (kinds.pop() if len(kinds) == 1 else ConfigError)("\n".join(sorted(self._kinds)))

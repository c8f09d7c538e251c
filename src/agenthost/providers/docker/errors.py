"""What an engine refuses."""

from __future__ import annotations

from agenthost.errors import ProviderError


class EngineError(ProviderError):
    """The container engine refused, in its own words.

    Attributes:
        status: HTTP status; 0 when it did not answer.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message, outcome="refused" if status else "unknown")
        self.status = status

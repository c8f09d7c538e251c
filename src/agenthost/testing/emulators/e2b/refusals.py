"""How the control plane refuses."""

from __future__ import annotations

from collections.abc import Mapping


class Refusal(Exception):
    """What a call is refused with: an HTTP status, a message, and headers."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})

"""What is under way, for those who wait."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

_log = logging.getLogger("agenthost.agent")

Stage = Literal["sandbox", "workspace", "agent", "ready", "end"]


@dataclass(frozen=True, slots=True)
class Progress:
    """One step on the way to a running agent, or from it.

    Attributes:
        stage: What it is about.
        message: One line for a person.
        seconds: Since the agent was asked for.
    """

    stage: Stage
    message: str
    seconds: float


class Reporter:
    """Calls the user's function, if there is one; its errors stay its own."""

    def __init__(self, call: Callable[[Progress], None] | None) -> None:
        self._call = call
        self._start = time.monotonic()

    def tell(self, stage: Stage, message: str) -> None:
        """Tell one step."""
        step = Progress(stage, message, time.monotonic() - self._start)
        _log.info("%s: %s", stage, message)
        if self._call is not None:
            try:
                self._call(step)
            except Exception:  # noqa: BLE001 - the agent does not fail because its progress bar did
                _log.exception("on_progress raised")

"""Log lines about what a sandbox does: each kind once as a warning, short, and on one line.

What is inside decides how often such a line is due and what stands in it. Without a bound, paths of 60 kB
filled the disk of a host with 50 MB of log a second.
"""

from __future__ import annotations

import logging

SHOWN = 200  # characters of each text that are logged
_KINDS = 64  # kinds that are warned of; a kind may be named by what is inside


def shortened(text: object) -> str:
    """Return a text from inside for a log or an error: short, and without control characters."""
    shown = text if isinstance(text, str) else str(text)
    ending = f"... ({len(shown)} characters)" if len(shown) > SHOWN else ""
    # A line feed in it would begin a line of its own: a forged one.
    return (
        "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in shown[:SHOWN])
        + ending
    )


class LogOnce:
    """Warns of each kind once; what follows of the same kind is logged at the level DEBUG.

    Args:
        log: The logger.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._seen: set[str] = set()

    def warning(self, kind: str, message: str, *args: object) -> None:
        """Log a message. ``kind`` names what is logged once; texts in ``args`` are shortened."""
        kind = kind[:SHOWN]
        is_new = kind not in self._seen and len(self._seen) < _KINDS
        if is_new:
            self._seen.add(kind)
        level = logging.WARNING if is_new else logging.DEBUG
        if self._log.isEnabledFor(level):
            shown = (arg if isinstance(arg, int | float) else shortened(arg) for arg in args)
            self._log.log(level, message, *shown)

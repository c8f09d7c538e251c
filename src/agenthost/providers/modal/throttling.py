"""Whether Modal throttles: its client waits then, and tells nobody but its log."""

from __future__ import annotations

import logging

_LOGGERS = ("modal-utils", "modal-client")  # Modal calls the first one the other's name in what it prints


class _Listener(logging.Handler):
    """Counts the calls that Modal's client logs as put off."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Look at one record, which is written elsewhere."""
        if "RESOURCE_EXHAUSTED" in record.getMessage():
            self.count += 1


_listener = _Listener()


def throttled() -> int:
    """Return how many calls of this process were put off so far, as far as Modal's client logs it."""
    for name in _LOGGERS:
        logging.getLogger(name).addHandler(_listener)  # once, however often it is added
    return _listener.count

"""A forked process owns nothing of its parent's: no sandbox, no record, no open link."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

_log = logging.getLogger("agenthost")

_forgets: list[Callable[[], object]] = []


def after_fork(forget: Callable[[], object]) -> None:
    """Have ``forget`` called in each child that this process forks, before anything else runs there.

    It must not raise and must not wait: a lock may be held by a thread that the child does not have.
    """
    _forgets.append(forget)


def _forget_all() -> None:
    for forget in _forgets:
        try:
            forget()
        except Exception:  # noqa: BLE001 - what comes behind it must be let go of, too
            _log.exception("a forked process could not let go of what is its parent's")


os.register_at_fork(after_in_child=_forget_all)

"""Keep the calls of one program within a vendor's limits."""

from __future__ import annotations

from collections.abc import Mapping

import anyio

_MOST_KEPT = 1000  # kinds of calls whose last one is remembered

Limit = tuple[float, int]


class Rates:
    """When the next call of each kind may be made. Calls of other programs are not known here.

    Args:
        usual: Calls each second, 1 or more of which may be made at once.
        of_action: The same for actions that have limits of their own.
    """

    def __init__(self, usual: Limit, of_action: Mapping[str, Limit]) -> None:
        self._usual = usual
        self._of_action = of_action
        # For each kind, when all its calls would have been made, had they been made one by one.
        self._used_until: dict[tuple[str, str], float] = {}

    async def wait(self, action: str, of: str) -> None:
        """Return when a call may be made.

        Args:
            action: What the vendor counts it as: ``create machine``.
            of: What the vendor counts it for: a sandbox's id, for instance.
        """
        each_second, at_once = self._of_action.get(action, self._usual)
        now = anyio.current_time()
        if len(self._used_until) >= _MOST_KEPT:
            self._used_until = {kind: until for kind, until in self._used_until.items() if until > now}
        begin = max(now, self._used_until.get((action, of), now))
        self._used_until[action, of] = begin + 1 / each_second
        await anyio.sleep(max(0.0, begin - (at_once - 1) / each_second - now))

"""Rows of the table: ours and a baseline, measured in turns."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line. ``goal`` is a ratio, or a value in ``unit`` where there is no baseline; None is none.

    ``higher_is_better`` turns the comparison round: for rates.
    """

    group: str
    name: str
    unit: str
    ours: float
    baseline: float | None
    baseline_name: str
    goal: float | None
    higher_is_better: bool = False
    rounds: int = 1

    @property
    def ratio(self) -> float | None:
        """Return ours to the baseline."""
        return None if self.baseline is None else self.ours / self.baseline

    @property
    def met(self) -> bool:
        """Return whether the goal was met."""
        if self.goal is None:
            return True
        value = self.ours if self.ratio is None else self.ratio
        return value >= self.goal if self.higher_is_better else value <= self.goal

    @property
    def goal_text(self) -> str:
        """Return the goal as it stands in the table."""
        if self.goal is None:
            return ""
        sign = ">=" if self.higher_is_better else "<="
        return f"{sign} {self.goal:g}" + (f" {self.unit}" if self.ratio is None else "")


async def in_turns(
    ours: Callable[[], Awaitable[float]], baseline: Callable[[], Awaitable[float]], rounds: int
) -> tuple[float, float]:
    """Return the medians of both; the first round warms up and is dropped."""
    a: list[float] = []
    b: list[float] = []
    for number in range(rounds + 1):
        pair = (await ours(), await baseline())
        if number:
            a.append(pair[0])
            b.append(pair[1])
    return statistics.median(a), statistics.median(b)

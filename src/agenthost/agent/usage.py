"""What an agent has used so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

# What the CLI tells of a model beside its sums.
_NOT_SUMS = frozenset({"contextWindow", "maxOutputTokens"})
_MODELS = 256  # whose totals are kept: what names them comes from inside, in any number of conversations


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Sums of the results that have arrived, whether or not they were read.

    Attributes:
        results: How many prompts were answered.
        turns: Turns of all of them.
        total_cost_usd: The CLI's own estimate in US dollars, subagents included; never bill from it. For a
            session that ``resume`` goes on with, the CLI counts from the session's beginning: subtract what
            the agent before had used.
        model_usage: The CLI's totals by model, likewise.
    """

    results: int = 0
    turns: int = 0
    total_cost_usd: float = 0.0
    model_usage: Mapping[str, Any] = field(default_factory=dict[str, Any])
    _cost_before: float = field(default=0.0, repr=False)
    _models_before: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)

    def plus(self, result: Mapping[str, Any]) -> Usage:
        """Return the sums after one more encoded ResultMessage."""
        cost, models = result.get("total_cost_usd"), result.get("model_usage")
        used = cast("Mapping[str, Any]", models) if isinstance(models, dict) else None
        return replace(
            self,
            results=self.results + 1,
            turns=self.turns + int(result.get("num_turns") or 0),
            # Running totals of the CLI's conversation: the last one holds those before.
            total_cost_usd=self.total_cost_usd if cost is None else self._cost_before + float(cost),
            model_usage=self.model_usage if used is None else _added(self._models_before, used),
        )

    def begin_again(self) -> Usage:
        """Return the sums at the start of a new conversation (``/clear``), where the CLI counts from 0."""
        return replace(self, _cost_before=self.total_cost_usd, _models_before=self.model_usage)


def _added(before: Mapping[str, Any], now: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the sums by model of two conversations."""
    added = {**before, **now}
    if len(added) > _MODELS:
        added = dict(list(added.items())[:_MODELS])
    for model in before.keys() & now.keys() & added.keys():
        if isinstance(before[model], dict) and isinstance(now[model], dict):
            old, new = cast("dict[str, Any]", before[model]), cast("dict[str, Any]", now[model])
            added[model] = {**old, **new, **{name: old[name] + new[name] for name in _sums(old) & _sums(new)}}
    return added


def _sums(model: Mapping[str, Any]) -> set[str]:
    numbers = {name for name, value in model.items() if isinstance(value, int | float)}
    return numbers - _NOT_SUMS

"""What an agent has used so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Sums of the results that have arrived, whether or not they were read.

    Attributes:
        results: How many prompts were answered.
        turns: Turns of all of them.
        total_cost_usd: The CLI's own estimate in US dollars, subagents included; never bill from it.
        model_usage: The CLI's running totals by model.
    """

    results: int = 0
    turns: int = 0
    total_cost_usd: float = 0.0
    model_usage: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def plus(self, result: Mapping[str, Any]) -> Usage:
        """Return the sums after one more encoded ResultMessage."""
        cost, models = result.get("total_cost_usd"), result.get("model_usage")
        return Usage(
            results=self.results + 1,
            turns=self.turns + int(result.get("num_turns") or 0),
            # Running totals of the CLI's process: the last one holds those before.
            total_cost_usd=float(cost) if cost is not None else self.total_cost_usd,
            model_usage=cast("Mapping[str, Any]", models) if isinstance(models, dict) else self.model_usage,
        )

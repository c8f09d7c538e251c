"""What E2B charges."""

from __future__ import annotations

from agenthost.adapter.prices import Prices

PRICES = Prices(
    core_hour=0.0504,
    gib_hour=0.0162,
    cores=2,
    memory_gib=2,
    read="August 2026, e2b.dev/docs/billing",
    kept="no price is published for a template",
)

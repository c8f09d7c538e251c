"""What Daytona charges."""

from __future__ import annotations

from agenthost.adapter.prices import Prices

PRICES = Prices(
    core_hour=0.0504,
    gib_hour=0.0162,
    cores=2,
    memory_gib=4,
    read="May 2026, a third party's summary of Daytona's price page",
    kept="no price is published for a snapshot",
)

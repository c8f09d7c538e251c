"""What Vercel charges."""

from __future__ import annotations

from agenthost.adapter.prices import Prices

PRICES = Prices(
    core_hour=0.128,  # of active CPU: waiting for the model is free
    gib_hour=0.0212,
    cores=2,
    memory_gib=4,
    read="August 2026, vercel.com/docs/sandbox/pricing",
    kept="a snapshot of one to two GB costs about $0.16 a month",
)

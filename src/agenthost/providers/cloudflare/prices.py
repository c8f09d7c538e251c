"""What Cloudflare charges."""

from __future__ import annotations

from agenthost.adapter.prices import Prices

# Of the instance type standard-1, which the project of ``agenthost cloudflare init`` names. Disk adds $0.002.
PRICES = Prices(
    core_hour=0.072,
    gib_hour=0.009,
    cores=0.5,
    memory_gib=4,
    read="August 2026, developers.cloudflare.com/containers/pricing; Workers Paid is $5 a month",
)

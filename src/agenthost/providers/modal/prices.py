"""What Modal charges."""

from __future__ import annotations

from agenthost.adapter.prices import Prices

PRICES = Prices(
    core_hour=0.142,  # of a physical core, which is two vCPUs
    gib_hour=0.0242,
    cores=0.5,
    memory_gib=1,
    read="not confirmed; look at modal.com/pricing",
    kept="no price is published for an image",
)

"""What Fly charges."""

from __future__ import annotations

from agenthost.adapter.prices import Prices

# Computed from what Fly published for shared-cpu-1x: $0.0000008 a second with 256 MB, $0.0000041 with 2 GB.
PRICES = Prices(
    core_hour=0.0012,
    gib_hour=0.0068,
    cores=1,
    memory_gib=2,
    read="fly.io/blog, the announcement of these sizes; look at fly.io/docs/about/pricing for today's",
)

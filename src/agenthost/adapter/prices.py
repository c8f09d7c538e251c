"""What a vendor charges for sandboxes: for estimates, before anything is made."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Published prices in US dollars, without traffic, discounts and free allowances.

    Attributes:
        core_hour: One core of the vendor, for an hour.
        gib_hour: One GiB of memory, for an hour.
        cores: Cores of a sandbox whose spec names no size.
        memory_gib: Its memory.
        read: When, and from where.
        kept: What an image that was baked costs while no sandbox runs.
    """

    core_hour: float
    gib_hour: float
    cores: float
    memory_gib: float
    read: str
    kept: str = "nothing is kept"

    @property
    def per_hour(self) -> float:
        """What a sandbox of the default size costs in an hour when its cores are busy."""
        return self.cores * self.core_hour + self.memory_gib * self.gib_hour

"""One sandbox for each test module and backend: starting one costs more than most tests."""

from __future__ import annotations

from support.local_box import box, provider

__all__ = ["box", "provider"]

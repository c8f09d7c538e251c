"""The table of providers in the documentation is what their classes state."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from agenthost.registry import provider_names

ROOT = Path(__file__).parents[2]


def test_the_table_is_up_to_date_and_has_every_provider() -> None:
    printed = subprocess.run(
        [sys.executable, "scripts/provider_table.py"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    page = ROOT / "docs" / "providers" / "README.md"
    assert page.read_text() == printed, "python scripts/provider_table.py > docs/providers/README.md"
    assert all(f"[`{name}`]" in printed for name in provider_names())

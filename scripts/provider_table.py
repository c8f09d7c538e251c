"""Print docs/providers/README.md: what each provider can do, as its class states.

.venv/bin/python scripts/provider_table.py > docs/providers/README.md
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, cast

from agenthost.adapter.cloud import CloudProvider
from agenthost.registry import load_provider, registration
from agenthost.sandbox import Capabilities

# The names of this project's own providers; others may be installed beside it.
NAMES = ("local", "local-unisolated", "docker", "cloudflare", "daytona", "e2b", "fly", "modal", "vercel")
PAGES = {"local-unisolated": "local"}
_HEAD = """# Providers

<!-- Written by scripts/provider_table.py from the classes of the providers. -->

`agenthost providers` prints the same for this machine, and whether each one can be used here. What a
provider cannot do is refused with an `UnsupportedError` before anything is made. Each has a page with its
limits, credentials and costs, and with what was never run live.

"""
_TAIL = """
"By machine": the provider looks at what the kernel and the host's user allow. A vendor's plan may allow less
than the table states. Lifetimes are in hours.
"""


def render() -> str:
    """Return the page."""
    makers = {name: load_provider(name) for name in NAMES}
    able = {name: _capabilities(maker) for name, maker in makers.items()}
    rows = [["", *(f"[`{name}`]({PAGES.get(name, name)}.md)" for name in NAMES)], ["---"] * (len(NAMES) + 1)]
    rows.append(["pip installs", *(f"`{registration(name).extra or 'agenthost'}`" for name in NAMES)])
    rows += [
        [one.name.replace("_", " "), *(_cell(getattr(able[name], one.name, None)) for name in NAMES)]
        for one in fields(Capabilities)
    ]
    rows.append(["longest lifetime", *(_longest(makers[name]) for name in NAMES)])
    rows.append(["event loops", *(_loops(makers[name]) for name in NAMES)])
    return _HEAD + "".join(_line(row) for row in rows) + _TAIL


def _capabilities(maker: Any) -> Capabilities | None:
    declared = inspect.getattr_static(maker, "capabilities", None)
    return declared if isinstance(declared, Capabilities) else None


def _longest(maker: Any) -> str:
    if not (isinstance(maker, type) and issubclass(maker, CloudProvider)):
        return "any"
    longest: float = cast("Any", maker).longest
    return "any" if math.isinf(longest) else f"{longest / 3600:g}"


def _loops(maker: Any) -> str:
    return "asyncio" if getattr(maker, "asyncio_only", False) else "asyncio, trio"


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "-"
    if isinstance(value, frozenset):
        return ", ".join(sorted(cast("frozenset[str]", value))) or "-"
    return "by machine" if value is None else str(value)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    sys.stdout.write(render())

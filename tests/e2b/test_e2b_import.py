"""E2B's client is slow to import, and that holds nothing up."""

from __future__ import annotations

import sys

import anyio
import pytest

# Asks for what needs the vendor's package, and tells which thread imports it. Nobody listens at that port.
IMPORTS = """
import sys, threading, anyio
from agenthost.errors import AgentHostError
from agenthost.adapter.bake import plan_bake
from agenthost.providers.e2b.provider import E2BProvider
from agenthost.supports import ImageRecipe

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("e2b."):
            seen.add(threading.current_thread() is threading.main_thread())

seen = set()
sys.meta_path.insert(0, Watch())

async def main():
    options = {"api_key": "e2b_x", "api_url": "http://127.0.0.1:9", "sandbox_url": "http://127.0.0.1:9"}
    async with E2BProvider(**options) as provider:
        try:
            if sys.argv[1] == "list":
                async for _ in provider.list():
                    pass
            else:
                await provider.images().find(plan_bake(ImageRecipe(), default_base="x"))
        except AgentHostError:
            pass
    # What is loaded late by the package itself is its own affair.
    print(min(seen), flush=True)

anyio.run(main)
"""


@pytest.mark.parametrize("what", ["list", "bake"])
async def test_the_vendors_package_is_not_imported_on_the_event_loop(what: str) -> None:
    # The vendor's runtime has been seen to abort when an interpreter ends: how it ends is not asked here.
    done = await anyio.run_process([sys.executable, "-c", IMPORTS, what], check=False)
    assert done.stdout == b"False\n", done.stderr.decode()

"""The page about the emulators is what they say themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from agenthost.testing.emulators.base.about import emulator_names, render

PAGE = Path(__file__).parents[2] / "docs" / "emulators.md"


@pytest.fixture
def page() -> str:
    return render()


def test_the_page_is_up_to_date(page: str) -> None:
    assert PAGE.read_text() == page, f"python -m agenthost.testing.emulators.base.about > {PAGE}"


def test_every_emulator_is_there_with_its_options_refusals_and_calls(page: str) -> None:
    assert emulator_names() == ["cloudflare", "daytona", "e2b", "fly", "modal", "vercel"]
    for line in (
        "## e2b",
        "- `most_running=100`: How many sandboxes may run at once.",
        "- this emulator has no ptys",
        "- `POST /v2/sandboxes/{id}/connect`",
        "- `POST /process.Process/StreamInput`",
        "## fly",
        "- this emulator has no containers",
        "- `POST /v1/apps/{app}/machines/{id}/suspend`",
        "## vercel",
        "- `stdin=True`: Whether programs can have input.",
        "- `POST /v2/sandboxes/sessions/{sid}/cmd/{cid}/stdin`",
        "## modal",
        "- `seed=0`: What the moods of a hostile one are drawn from.",
        "- the emulator has no terminals",
        "- `SandboxCreateV2`",
        "- `TaskExecStart`",
    ):
        assert f"{line}\n" in page
    assert "SandboxGetTunnelsV2" not in page

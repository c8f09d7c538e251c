"""Nothing that the installed SDK offers is left out, and nothing is named that it does not offer."""

from __future__ import annotations

from collections import Counter

import pytest
from parity.inventory import inventory
from parity.masks import MASKS
from parity.reasons import REASONS
from parity.table import TABLE

COVERED = frozenset[str]().union(*(one.covers for one in TABLE))


@pytest.mark.parametrize("name", sorted(inventory()))
def test_all_that_the_sdk_offers_has_a_scenario_or_a_reason(name: str) -> None:
    assert name in COVERED | set(REASONS), (
        f"the installed claude-agent-sdk has {name}: add a scenario to tests/parity/table that covers it, or "
        "say in tests/parity/reasons.py why there is none"
    )


def test_no_scenario_and_no_reason_names_what_the_sdk_does_not_have() -> None:
    assert (COVERED | set(REASONS)) - inventory() == set()


def test_what_has_a_scenario_needs_no_reason() -> None:
    assert COVERED & set(REASONS) == set()


def test_a_reason_says_something() -> None:
    assert all(len(reason.split()) > 3 for reason in REASONS.values())


def test_there_are_enough_scenarios_each_with_a_name_of_its_own() -> None:
    assert len(TABLE) >= 40
    assert [name for name, count in Counter(one.name for one in TABLE).items() if count > 1] == []
    assert all(one.covers for one in TABLE)


def test_masks_are_named_where_they_are_needed_and_nowhere_else() -> None:
    named = frozenset[str]().union(*(one.masks for one in TABLE))
    assert named == {mask.name for mask in MASKS if not mask.everywhere}
    assert all(mask.why for mask in MASKS)

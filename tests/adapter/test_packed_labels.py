"""Labels for a vendor that keeps a few short texts: all come back, or too many are refused."""

from __future__ import annotations

import random
import string

import pytest

from agenthost.adapter.packed_labels import PackedLabels
from agenthost.errors import ConfigError

OURS = {"agenthost-name": "web-1", "agenthost-provider": "acme", "agenthost-nonce": "c0ffee"}


@pytest.mark.parametrize("more", [{}, {"team": "a b", "ünï/cödé": "100 %\n", "": ""}, {"long": "ab" * 400}])
def test_all_labels_come_back_and_two_stay_readable(more: dict[str, str]) -> None:
    rule = PackedLabels(most=5, longest=60)
    tags = rule.pack({**OURS, **more})
    assert (tags["agenthost-provider"], tags["agenthost-nonce"]) == ("acme", "c0ffee")
    assert len(tags) <= 5
    assert all(len(value) <= 60 for value in tags.values())
    assert rule.unpack("web-1", tags) == {**OURS, **more}


def test_labels_that_do_not_fit_are_refused_with_the_room_that_there_is() -> None:
    text = "".join(random.Random(7).choices(string.printable, k=300))  # what cannot be packed well
    with pytest.raises(ConfigError, match="180 is the most"):
        PackedLabels(most=5, longest=60).pack({**OURS, "long": text})


@pytest.mark.parametrize("packed", ["", "!", "eNo=", "eJyLjgUAARUAuQ=="], ids=["none", "odd", "cut", "list"])
def test_tags_that_something_else_has_changed_are_no_error(packed: str) -> None:
    tags = {"agenthost-provider": "acme", "agenthost-1": packed, "team": "a"}
    assert PackedLabels(most=5, longest=60).unpack("web-1", tags) == {"agenthost-provider": "acme"}

"""What is stored at a vendor as labels comes back as it was, whatever the vendor accepts as a label."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthost.adapter.record import (
    LEASE_LABEL,
    NAME_LABEL,
    NONCE_LABEL,
    PROVIDER_LABEL,
    RESERVED,
    WORKDIR_LABEL,
    LabelRule,
    SandboxRecord,
    number_in,
    refuse_reserved,
)
from agenthost.errors import ConfigError
from agenthost.owners import CREATED_LABEL, END_LABEL
from agenthost.spec import SandboxSpec

TEXTS = st.text(max_size=40)
WITHOUT_NUL = st.characters(exclude_characters="\0", exclude_categories=("Cs",))
LABELS = st.dictionaries(TEXTS, TEXTS, max_size=4)
WIDE = LabelRule(10_000)
NARROW = LabelRule(10_000, "a-z")


@given(LABELS, st.sampled_from([WIDE, NARROW]))
def test_labels_are_decoded_to_what_they_were(labels: dict[str, str], rule: LabelRule) -> None:
    assert rule.decode(rule.encode(labels)) == labels


@given(LABELS)
def test_encoded_labels_are_not_empty_and_have_no_other_characters(labels: dict[str, str]) -> None:
    for text in [text for pair in WIDE.encode(labels).items() for text in pair]:
        assert re.fullmatch(r"[A-Za-z0-9._-]+", text)
    for text in [text for pair in NARROW.encode(labels).items() for text in pair]:
        assert re.fullmatch(r"[a-z]*(_([0-9A-F]{2})?[a-z]*)*", text)


@given(TEXTS, TEXTS)
def test_a_label_longer_than_the_vendor_accepts_is_refused_by_its_name(name: str, value: str) -> None:
    ((key, encoded),) = WIDE.encode({name: value}).items()
    longest = max(len(key), len(encoded))
    assert LabelRule(longest).encode({name: value}) == {key: encoded}
    with pytest.raises(ConfigError) as caught:
        LabelRule(longest - 1).encode({name: value})
    assert str(caught.value).startswith(f"label {name!r} takes {longest} characters")


@given(LABELS)
def test_labels_that_others_have_written_are_decoded_to_something(labels: dict[str, str]) -> None:
    WIDE.decode(labels)


@given(LABELS, st.none() | st.text(WITHOUT_NUL, max_size=20).map(lambda text: f"/{text}"))
def test_a_record_is_what_its_labels_describe(labels: dict[str, str], workdir: str | None) -> None:
    given_labels = {name: value for name, value in labels.items() if name not in RESERVED}
    own = {NONCE_LABEL: "n", CREATED_LABEL: "100", END_LABEL: "160", LEASE_LABEL: "5.5"}
    spec = SandboxSpec(name="x", labels={**given_labels, **own}, workdir=workdir)
    for rule in (None, NARROW):
        found = SandboxRecord.from_labels(SandboxRecord.of(spec, "acme").to_labels(rule), rule)
        assert found is not None
        assert (found.name, found.provider, found.workdir) == ("x", "acme", workdir)
        assert (found.created, found.end) == (100.0, 160.0)
        assert {name: found.labels[name] for name in given_labels} == given_labels


@pytest.mark.parametrize("missing", [NAME_LABEL, PROVIDER_LABEL, NONCE_LABEL])
def test_labels_without_name_provider_or_nonce_are_another_programs(missing: str) -> None:
    labels = {NAME_LABEL: "x", PROVIDER_LABEL: "acme", NONCE_LABEL: "n"}
    assert SandboxRecord.from_labels(labels) is not None
    labels.pop(missing)
    assert SandboxRecord.from_labels(labels) is None


@pytest.mark.parametrize("text", ["", "soon", "nan", "inf", "-inf", "1e999"])
def test_a_label_that_is_not_a_finite_number_is_none(text: str) -> None:
    assert number_in({END_LABEL: text}, END_LABEL) is None
    record = SandboxRecord("x", "acme", {END_LABEL: text, CREATED_LABEL: text})
    assert (record.created, record.end) == (None, None)


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_callers_label_of_agenthosts_own_name_is_refused(name: str) -> None:
    assert WORKDIR_LABEL in RESERVED
    refuse_reserved({f"{name}-": "x"})
    with pytest.raises(ConfigError, match=f"'{name}' is reserved"):
        refuse_reserved({"team": "a", name: "x"})

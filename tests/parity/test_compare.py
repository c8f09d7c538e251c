"""The comparison finds what differs, and takes ids for what they are."""

from __future__ import annotations

from typing import Any

import pytest
from claude_agent_sdk import (
    AssistantMessage,
    ProcessError,
    ResultMessage,
    TextBlock,
    ToolUseBlock,
    UserMessage,
)
from parity.compare import FIXED, compare, plain
from parity.masks import MASKS

ONE, TWO, THREE = (f"{n}a7bffc0-4f2b-4d3c-9d1e-0123456789ab" for n in (1, 2, 3))


def steps(*values: Any) -> Any:
    return plain({"steps": list(values)}, {})


def paths(bare: Any, hosted: Any, *masks: str) -> list[Any]:
    return [difference.path for difference in compare(bare, hosted, masks).differences]


def text(words: str, **fields: Any) -> AssistantMessage:
    return AssistantMessage(content=[TextBlock(words)], model="m", **fields)


@pytest.mark.parametrize(
    ("bare", "hosted", "path"),
    [
        (text("one"), text("two"), ("steps", 0, "content", 0, "text")),
        (text("one"), text("one", error="rate_limit"), ("steps", 0, "error")),
        (text("one"), UserMessage(content=[TextBlock("one")]), ("steps", 0, "$class")),
        (TextBlock("one"), ToolUseBlock("one", "one", {}), ("steps", 0, "$class")),
        ({"a": 1}, {"a": 1, "b": None}, ("steps", 0, "b")),
        ({"a": 1}, {"a": 1.0}, ("steps", 0, "a")),
        ({"a": True}, {"a": 1}, ("steps", 0, "a")),
        ({"a": None}, {"a": ""}, ("steps", 0, "a")),
        ([1, 2], [1, 2, 3], ("steps", 0, "length")),
        (ProcessError("x", exit_code=1), ProcessError("x", exit_code=2), ("steps", 0, "$text")),
        (ProcessError("x"), ValueError("x"), ("steps", 0, "$class")),
    ],
    ids=str,
)
def test_a_difference_is_found_where_it_is(bare: Any, hosted: Any, path: tuple[str | int, ...]) -> None:
    assert path in paths(steps(bare), steps(hosted))
    assert paths(steps(bare), steps(bare)) == []


def test_a_message_too_few_is_told_by_the_kinds_of_all() -> None:
    (difference,) = compare(steps(text("a"), text("b")), steps(text("a"))).differences
    assert difference.path == ("steps", "length")
    assert str(difference).count("AssistantMessage") == 3


def test_ids_may_differ_but_must_stand_for_each_other_all_through() -> None:
    bare = steps({"uuid": ONE}, f"about {ONE} and {TWO}", {ONE: 1})
    assert paths(bare, steps({"uuid": THREE}, f"about {THREE} and {ONE}", {THREE: 1})) == []
    assert paths(bare, steps({"uuid": THREE}, f"about {TWO} and {ONE}", {THREE: 1})) == [("steps", 1)]
    assert paths(bare, steps({"uuid": THREE}, f"about {THREE} and {THREE}", {THREE: 1})) == [("steps", 1)]


def test_an_id_that_a_scenario_gave_must_come_back_as_it_is() -> None:
    own = FIXED + ONE[9:]
    assert paths(steps(own), steps(own)) == []
    assert paths(steps(own), steps(ONE)) == [("steps", 0)]


def test_ids_without_a_form_are_known_by_their_key() -> None:
    bare = steps({"task_id": "abcdefg"}, "task abcdefg ended")
    assert paths(bare, steps({"task_id": "tuvwxyz"}, "task tuvwxyz ended")) == []
    assert paths(bare, steps({"task_id": "tuvwxyz"}, "task abcdefg ended")) == [("steps", 1)]


def test_times_may_differ_but_not_become_something_else() -> None:
    def result(milliseconds: Any) -> Any:
        return steps(ResultMessage("success", milliseconds, 1, False, 1, "s"))

    assert paths(result(5), result(7)) == []
    assert paths(result(5), result("7")) == [("steps", 0, "duration_ms")]


def test_the_uuid_of_a_prompt_may_come_out_of_nowhere_but_not_get_lost() -> None:
    without, own = text("a"), text("a", user_message_uuid=ONE, user_message_uuids=[ONE])
    assert paths(steps(without), steps(own)) == []
    assert len(paths(steps(own), steps(without))) == 2


def test_what_is_meant_to_differ_in_one_scenario_is_found_in_others() -> None:
    (mask,) = [mask for mask in MASKS if mask.name == "an error is told to all who ask"]
    bare, hosted = steps({"asked again": "nothing more"}), steps({"asked again": "the error again"})
    assert paths(bare, hosted, mask.name) == []
    assert paths(bare, hosted) == [("steps", 0, "asked again")]


def test_places_have_names() -> None:
    value = {"path": "/a/b/c.txt", "deep": ["in /a/b", "/a/bc"]}
    assert plain(value, {"/a/b": "<work>", "/a": "<root>"}) == {
        "path": "<work>/c.txt",
        "deep": ["in <work>", "<work>c"],
    }

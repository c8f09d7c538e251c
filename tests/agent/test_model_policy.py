"""What a request to the model may be, which models it may name, and what it costs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from claude_agent_sdk import AgentDefinition

from agenthost.agent.defaults import NO_DEFAULTS, SafeDefaults
from agenthost.agent.model_budget import Hold
from agenthost.agent.model_guard import ModelGuard
from agenthost.agent.model_json import MOST_VALUES, BodyError, parse_body
from agenthost.agent.model_names import ModelNames
from agenthost.agent.model_policy import ModelPolicy, ModelRequest, Refusal
from agenthost.agent.model_prices import Tokens, cost, price_of
from agenthost.agent.model_usage import UsageReader
from agenthost.spec import Limits

PATH = "/v1/messages?beta=true"


def judge(body: dict[str, Any], policy: ModelPolicy | None = None, **headers: str) -> ModelRequest | Refusal:
    given = [(name.replace("_", "-"), value) for name, value in headers.items()]
    whole = {"model": "claude-opus-5-5", "max_tokens": 100, **body}
    return (policy or ModelPolicy()).judge("POST", PATH, given, json.dumps(whole).encode())


def guard(options: dict[str, Any], env: dict[str, str] | None = None, **defaults: Any) -> ModelGuard:
    return ModelGuard.of_options(options, env or {}, Limits(), SafeDefaults(**defaults))


# ---- bodies


def test_what_the_cli_asks_passes_as_it_is_in_a_closed_network() -> None:
    body = {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "http://x", "cache_control": {"type": "ephemeral"}},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}},
                    {
                        "type": "document",
                        "source": {"type": "text", "media_type": "text/plain", "data": "x"},
                        "citations": {"enabled": True},
                    },
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "so", "signature": "x"},
                    # What a tool is asked for is data: it looks like a source and is none.
                    {
                        "type": "tool_use",
                        "id": "toolu_1",
                        "name": "Bash",
                        "input": {"type": "url", "url": "http://x", "model": "y", "file_id": "z"},
                    },
                ],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "ok"}]},
            {"role": "system", "content": "more"},
        ],
        "tools": [
            {"name": "Bash", "input_schema": {"type": "object", "properties": {"url": {"type": "string"}}}},
            {"type": "bash_20250124", "name": "bash"},
        ],
        "metadata": {"user_id": "{}"},
        "thinking": {"type": "adaptive", "display": "updates"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {
            "effort": "low",
            "task_budget": {"type": "tokens", "total": 9},
            "format": {"type": "json_schema", "schema": {"type": "object"}},
        },
        "stream": True,
    }
    found = judge(body, anthropic_beta="one", x_stainless_os="Linux", user_agent="claude-cli")

    assert isinstance(found, ModelRequest), found
    assert json.loads(found.body) == {"model": "claude-opus-5-5", "max_tokens": 100, **body}
    assert (found.models, found.spends, found.streams, found.max_tokens) == (
        ("claude-opus-5-5",),
        True,
        True,
        100,
    )
    assert dict(found.headers) == {
        "anthropic-beta": "one",
        "x-stainless-os": "Linux",
        "user-agent": "claude-cli",
        "content-type": "application/json",
    }


def test_an_open_network_leaves_the_models_service_open() -> None:
    body = {"tools": [{"type": "web_search_20250305", "name": "web_search"}], "container": "c"}
    assert isinstance(judge(body, ModelPolicy(is_closed=False)), ModelRequest)
    refusal = judge(body)
    assert isinstance(refusal, Refusal)
    assert refusal.kind == "egress"
    assert "SafeDefaults(refuse_model_egress=None)" in refusal.message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"model": "x"',
        b'{"a": {"b": 1, "b": 2}}',
        b'{"a": NaN}',
        '{"a": "\u00fc"}'.encode("utf-16"),
        b'{"a": "\xff"}',
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a": [' + b'",",' * 100 + b"1," * MOST_VALUES + b"1]}",
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
    ids=["empty", "list", "half", "twice", "nan", "utf-16", "no-utf-8", "deep", "many", "long-number"],
)
def test_what_has_no_single_meaning_is_not_read(body: bytes) -> None:
    with pytest.raises(BodyError):
        parse_body(body)


def test_texts_are_no_values() -> None:
    text = '[{,"\\' * (MOST_VALUES // 2)
    assert parse_body(json.dumps({"a": text, '"[': [text]}).encode()) == {"a": text, '"[': [text]}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"new_field": 1}, "field"),
        ({"messages": [{"Type": "url"}]}, "body"),
        ({"fallbacks": "claude-fable-5"}, "model"),
        ({"fallbacks": ["claude-fable-5"]}, "model"),
        ({"fallbacks": [["claude-opus-5-5"]]}, "model"),
        ({"messages": [{"content": [{"image_url": "http://x"}]}]}, "egress"),
        ({"system": [{"type": "text", "text": "x", "source_uri": "http://x"}]}, "egress"),
        ({"tools": [{"name": "x", "file_ids": ["file_1"]}]}, "egress"),
        ({"messages": [{"content": [{"type": ["url"]}]}]}, "egress"),
        ({"messages": [{"content": [{"type": "image", "source": {"url": "http://x"}}]}]}, "egress"),
        ({"messages": [{"content": [{"type": "container_upload"}]}]}, "egress"),
    ],
)
def test_what_the_api_might_read_in_another_way_is_refused(body: dict[str, Any], kind: str) -> None:
    found = judge(body)
    assert isinstance(found, Refusal)
    assert found.kind == kind


def test_a_field_that_agenthost_does_not_know_is_sent_where_the_host_names_it() -> None:
    refusal = judge({"new_field": True})
    assert isinstance(refusal, Refusal)
    assert "SafeDefaults(other_fields=('new_field',))" in refusal.message

    for other_fields in (("new_field",), None):
        first = guard({}, other_fields=other_fields)
        assert isinstance(judge({"new_field": True}, first.policy), ModelRequest)
        second = ModelGuard.of_ref(first.to_json(), Limits())
        assert isinstance(judge({"new_field": True}, second.policy), ModelRequest)
        assert isinstance(judge({"container": "c"}, second.policy), Refusal)


async def test_count_tokens_counts_among_the_requests_and_costs_nothing() -> None:
    found = ModelGuard.of_options({}, {}, Limits(model_requests=2, model_usd=1e-9), SafeDefaults())
    spends = judge({})
    body = json.dumps({"model": "claude-opus-5-5"}).encode()
    counts = found.policy.judge("POST", "/v1/messages/count_tokens?beta=true", [], body)
    assert isinstance(spends, ModelRequest)
    assert isinstance(counts, ModelRequest)
    on_the_way = await found.admit(spends, 100)
    hold = await found.admit(counts, 100)  # does not wait for what the other one costs
    assert isinstance(on_the_way, Hold)
    assert isinstance(hold, Hold)
    with found.budget.settling(hold):
        hold.answer(200, [])
    assert (found.budget.used.requests, found.budget.used.tokens, found.budget.used.usd) == (2, 0, 0)
    assert isinstance(await found.admit(counts, 100), Refusal)


async def test_a_request_without_a_stated_usage_counts_as_in_its_worst_case() -> None:
    found = guard({})
    asked = judge({"stream": True})
    assert isinstance(asked, ModelRequest)
    hold = await found.admit(asked, 1000)
    assert isinstance(hold, Hold)
    with found.budget.settling(hold):
        pass
    assert found.budget.used.tokens == 500


def test_a_refusal_shows_little_of_what_was_asked_and_no_control_characters() -> None:
    found = judge({"model": "x\x1b[31m\u2028" + "y" * 10_000})
    assert isinstance(found, Refusal)
    assert len(found.message) < 300
    assert found.message.isprintable()


# ---- models


@pytest.mark.parametrize(
    ("named", "allowed", "refused"),
    [
        (
            [],
            "claude-opus-5-5 claude-sonnet-5 claude-3-5-haiku-20241022",
            "claude-fable-5 gpt-6 claude-opusx",
        ),
        (
            ["claude-sonnet-4-5"],
            "claude-sonnet-4-5-20250929 claude-haiku-5-5",
            "claude-sonnet-5 claude-opus-5",
        ),
        (["claude-sonnet-4-5[1m]"], "claude-sonnet-4-5", "claude-sonnet-4-6"),
        (["sonnet"], "claude-sonnet-5-5 claude-haiku-4-5", "claude-opus-5-5"),
        (["opusplan"], "claude-opus-5-5 claude-sonnet-5-5", "claude-fable-5"),
        (["haiku", "fable"], "claude-fable-5-2 claude-opus-5-5", "claude-mythos-5"),
        (["gpt-6"], "gpt-6 claude-haiku-5-5", "gpt-6-large claude-sonnet-5-5"),
        (["inherit"], "claude-haiku-5-5", "claude-sonnet-5-5"),
    ],
)
def test_names_allow_their_model_and_cheaper_ones(named: list[str], allowed: str, refused: str) -> None:
    names = ModelNames(named)
    assert [name for name in allowed.split() if not names.allow(name)] == []
    assert [name for name in refused.split() if names.allow(name)] == []
    assert not names.allow(None)


def test_a_model_may_be_named_in_each_place_that_the_options_have_for_it() -> None:
    options = {
        "model": "claude-sonnet-4-5",
        "fallback_model": "one, two",
        "agents": {"a": AgentDefinition(description="", prompt="", model="three"), "b": {"model": "four"}},
        "settings": json.dumps({"model": "five", "env": {"ANTHROPIC_SMALL_FAST_MODEL": "six"}}),
        "extra_args": {"model": "seven"},
    }
    env = {"ANTHROPIC_DEFAULT_OPUS_MODEL": "eight", "CLAUDE_CODE_SUBAGENT_MODEL": "nine", "HOME": "ten"}
    found = guard(options, env, other_models=("eleven",))

    given = [
        "claude-sonnet-4-5",
        "one",
        "two",
        "three",
        "four",
        "five",
        "seven",
        "eight",
        "nine",
        "six",
        "eleven",
    ]
    assert sorted(found.policy.names.given) == sorted(given)
    assert not found.policy.names.allow("ten")
    assert ModelGuard.of_options({}, {}, Limits(), NO_DEFAULTS).policy.names.allow("anything")


def test_the_host_changes_the_model_by_a_call_and_by_a_command_and_the_agent_by_neither() -> None:
    found = guard({"model": "haiku"})
    found.allow_model("claude-opus-5-5")
    found.note_prompt("/model fable")
    found.note_prompt([{"type": "user", "message": {"role": "user", "content": "/model gpt-6"}}])
    found.note_prompt("say /model claude-mythos-5")
    names = found.policy.names
    assert all(names.allow(name) for name in ("claude-opus-5-5", "claude-fable-5", "gpt-6"))
    assert not names.allow("claude-mythos-5")


def test_another_process_goes_on_where_the_ref_was_made() -> None:
    first = guard({"model": "haiku", "max_budget_usd": 2.0}, {"CLAUDE_CODE_EXTRA_BODY": '{"top_n": 1}'})
    first.policy.is_closed = False
    first.budget.used.usd, first.budget.used.requests = 1.5, 7
    first.note_prompt("go")
    second = ModelGuard.of_ref(first.to_json(), Limits(model_tokens=5))

    assert second.to_json() == first.to_json()
    assert isinstance(judge({"model": "claude-haiku-5-5", "top_n": 1}, second.policy), ModelRequest)
    assert not second.policy.names.allow("claude-opus-5-5")
    assert (second.budget.bounds.budget, second.budget.bounds.tokens) == (2.0, 5)


async def test_requests_that_ask_no_model_are_bounded_for_each_prompt() -> None:
    judged = guard({})
    greeting = ModelPolicy().judge("HEAD", "/api/hello", [], b"")
    assert isinstance(greeting, ModelRequest)
    answers = [await judged.admit(greeting, 0) for _ in range(101)]
    assert answers[:-1] == [None] * 100
    assert isinstance(answers[-1], Refusal)
    judged.note_prompt("one")
    judged.note_prompt("two")
    assert await judged.admit(greeting, 0) is None


async def test_a_request_on_the_way_is_counted_for_the_next_process_as_far_as_it_is_known() -> None:
    first = guard({})
    asked = judge({"stream": True})
    assert isinstance(asked, ModelRequest)
    hold = await first.admit(asked, 100)
    assert isinstance(hold, Hold)
    with first.budget.settling(hold):
        hold.answer(200, [("content-type", "text/event-stream")])
        hold.take(b'data: {"type": "message_start", "message": {"usage": {"input_tokens": 1000000}}}\n\n')
        second = ModelGuard.of_ref(first.to_json(), Limits())

    assert second.budget.used.tokens >= 1_000_000
    assert second.budget.used.usd == pytest.approx(4, abs=0.1)


# ---- what it costs


def test_prices_are_those_of_the_model_and_of_the_way_it_is_asked() -> None:
    tokens = Tokens(input=1000, output=1000, read=1000, written=1000, written_long=1000)
    opus, haiku = price_of("claude-opus-5-5"), price_of("claude-haiku-5-5")
    assert opus is not None
    assert haiku is not None
    assert cost(opus, tokens) == pytest.approx((4 + 20 + 0.2 + 5 + 8) / 1000)
    assert cost(opus, tokens, fast=True, geo="us") == pytest.approx(2 * 1.1 * (4 + 20 + 0.2 + 5 + 8) / 1000)
    assert cost(haiku, Tokens(input=100_000)) == pytest.approx(0.01)
    assert cost(haiku, Tokens(input=99_999, read=2)) == pytest.approx(0.0499996)
    assert cost(opus, Tokens(searches=2)) == pytest.approx(0.02)
    assert price_of("claude-opus-4-5-20251101") == price_of("anthropic/claude-opus-4.5")
    assert (price_of("claude-opus-9"), price_of("claude-opus-4-55"), price_of("gpt-6")) == (None, None, None)


def _events() -> bytes:
    usage = {
        "input_tokens": 3,
        "cache_read_input_tokens": 5,
        "cache_creation_input_tokens": 7,
        "cache_creation": {"ephemeral_1h_input_tokens": 4},
        "output_tokens": 1,
    }
    lines = [
        {"type": "message_start", "message": {"usage": usage}},
        {"type": "content_block_delta", "delta": {"text": 'a "message_delta" in a text'}},
        {"type": "content_block_delta", "delta": {"text": "x" * 1000}},
        {
            "type": "message_delta",
            "usage": {
                "output_tokens": 11,
                "iterations": [{"type": "advisor_message", "model": "y", "output_tokens": 2}],
            },
        },
    ]
    return b"".join(f"event: {line['type']}\ndata: {json.dumps(line)}\n\n".encode() for line in lines)


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_usage_is_read_from_pieces_of_any_size(size: int) -> None:
    reader, data = UsageReader(streams=True), _events()
    for start in range(0, len(data), size):
        reader.take(data[start : start + size])
    assert reader.tokens == Tokens(input=3, read=5, written=3, written_long=4, output=11)
    assert reader.models == {"y": Tokens(output=2)}
    assert reader.is_final


def test_a_line_that_is_too_long_is_not_kept_and_the_next_one_is_read() -> None:
    reader = UsageReader(streams=True)
    for _ in range(20):
        reader.take(b"x" * 100_000)
    reader.take(b'"message_delta"\n' + _events())
    assert reader.is_final


def test_usage_is_read_from_an_answer_that_comes_as_a_whole() -> None:
    reader = UsageReader(streams=False)
    reader.take(b'{"usage": {"input_tokens": 3, ')
    reader.take(b'"output_tokens": 4}}')
    reader.end()
    assert (reader.tokens, reader.is_final) == (Tokens(input=3, output=4), True)

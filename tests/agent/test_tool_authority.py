"""Which calls of in-process MCP tools the host takes for approved: no honest one is refused."""

from __future__ import annotations

from typing import Any

import pytest
from claude_agent_sdk import (
    AgentDefinition,
    HookMatcher,
    PermissionResultAllow,
    PermissionResultDeny,
    PermissionUpdate,
    create_sdk_mcp_server,
)
from claude_agent_sdk.types import PermissionRuleValue

from agenthost.agent.callbacks import take_callbacks
from agenthost.agent.tool_authority import ToolAuthority
from agenthost.errors import ConfigError

PAY = "mcp__own__pay"


def authority(hooks: dict[str, Any] | None = None, **options: Any) -> ToolAuthority:
    """Return one for an agent with these options, and otherwise with the defaults of agenthost."""
    made = ToolAuthority(hooks)
    made.take_options({"setting_sources": [], **options})
    return made


def runs(judge: ToolAuthority, given: Any = None, *, server: str = "own", tool: str = "pay") -> bool:
    return judge.refusal(server, tool, {} if given is None else given) is None


def verdict(event: str = "PreToolUse", **fields: Any) -> dict[str, Any]:
    return {"hookSpecificOutput": {"hookEventName": event, **fields}}


def ask_hook(
    judge: ToolAuthority,
    given: Any,
    answer: Any,
    *,
    event: str = "PreToolUse",
    matcher: int = 0,
    hook: int = 0,
) -> None:
    asked = {"event": event, "matcher": matcher, "hook": hook, "tool_use_id": "toolu_1"}
    judge.question(PAY, given).hook(asked, answer)


# Tried with CLI 2.1.332.
@pytest.mark.parametrize(
    ("rule", "allows", "denies"),
    [
        ("mcp__own__pay", True, True),
        ("mcp__own", True, True),
        ("mcp__own__*", True, True),
        ("mcp__own__p*", True, True),
        ("mcp__own__look, mcp__own__pay", True, True),
        ("mcp__own__pay()", True, False),
        ("mcp__own__look", False, False),
        ("mcp__ow", False, False),
        ("mcp__own__pay(x)", True, False),  # the CLI refuses it: a call that arrives is another rule's
        ("mcp__*", False, True),
        ("*", False, True),
        ("Bash", False, False),
    ],
)
def test_rules_are_read_as_the_cli_reads_them(rule: str, allows: bool, denies: bool) -> None:
    assert runs(authority(allowed_tools=[rule])) == allows
    assert runs(authority(permission_mode="bypassPermissions", disallowed_tools=[rule])) != denies


def test_a_server_and_a_tool_are_known_by_the_names_that_the_cli_gives_them() -> None:
    judge = authority(allowed_tools=["mcp__my_server__do_it"])
    assert runs(judge, server="my server", tool="do.it")


@pytest.mark.parametrize(
    ("mode", "approves"),
    [
        (None, False),
        ("default", False),
        ("acceptEdits", False),
        ("plan", False),
        ("dontAsk", False),
        ("bypassPermissions", True),
        ("auto", True),  # the CLI's own model decides, which the host does not see
    ],
)
def test_permission_modes(mode: str | None, approves: bool) -> None:
    assert runs(authority(permission_mode=mode)) == approves


def test_while_the_mode_is_changed_either_counts_and_then_the_new_one() -> None:
    judge = authority(permission_mode="bypassPermissions")
    with judge.changing_mode("default"):
        assert runs(judge)
    assert not runs(judge)
    with pytest.raises(ValueError, match="no"), judge.changing_mode("bypassPermissions"):
        raise ValueError("no")
    assert not runs(judge)


def test_inline_settings_count() -> None:
    allow = '{"permissions": {"allow": ["mcp__own__pay"]}}'
    assert runs(authority(settings=allow))
    assert not runs(authority(settings='{"permissions": {"allow": ["mcp__own__look"]}}'))
    assert runs(authority(settings='{"permissions": {"defaultMode": "bypassPermissions"}}'))
    assert not runs(authority(settings='{"permissions": {"deny": ["mcp__own"]}}', allowed_tools=[PAY]))


@pytest.mark.parametrize(
    "options",
    [
        {"setting_sources": None},
        {"setting_sources": ["project"]},
        {"settings": "settings.json"},
        {"settings": '{"hooks": {"PreToolUse": []}, "permissions": 1}'},
        {"skills": "all"},
        {"plugins": [{"type": "local", "path": "plugin"}]},
        {"permission_prompt_tool_name": "mcp__own__ask"},
        {"agents": {"a": AgentDefinition(description="", prompt="", permissionMode="bypassPermissions")}},
        {"extra_args": {"permission-mode": "bypassPermissions"}},
    ],
    ids=str,
)
def test_where_something_else_may_approve_a_call_only_what_was_denied_is_refused(
    options: dict[str, Any],
) -> None:
    judge = authority(**options)
    assert runs(judge, {"a": 1})
    judge.question(PAY, {"a": 1}).permission(PermissionResultDeny())
    assert not runs(judge, {"a": 1})
    assert runs(judge, {"a": 2})


def test_a_driver_that_attached_refuses_only_what_it_has_denied() -> None:
    judge = ToolAuthority()
    assert runs(judge)
    judge.question(PAY, {}).permission(PermissionResultDeny())
    assert not runs(judge)


def test_an_answer_is_for_its_tool_and_its_input_and_is_used_once() -> None:
    judge = authority()
    judge.question(PAY, {"a": 1, "b": [True, None]}).permission(PermissionResultAllow())
    assert not runs(judge, {"a": 1, "b": [True, None]}, tool="other")
    assert not runs(judge, {"a": 2, "b": [True, None]})
    assert not runs(judge, {"a": 1, "b": [1, None]})
    assert not runs(judge, {"a": 1.0, "b": [True, None]})  # JavaScript writes 1
    assert runs(judge, {"b": [True, None], "a": 1})
    assert not runs(judge, {"a": 1, "b": [True, None]})


def test_an_answer_to_a_large_number_is_for_no_other() -> None:
    judge = authority()
    judge.question(PAY, {"n": 123456789012345680}).permission(PermissionResultAllow())
    assert not runs(judge, {"n": 123456789012345678})
    assert runs(judge, {"n": 123456789012345680})


def test_numbers_are_compared_as_javascript_has_them() -> None:
    judge = authority()
    judge.question(PAY, {}).permission(PermissionResultAllow(updated_input={"n": 12345678901234567890}))
    assert runs(judge, {"n": 12345678901234567000})


@pytest.mark.parametrize("updated", [{}, {"a": 2}])
def test_another_input_takes_the_place_of_the_one_that_was_asked_about(updated: dict[str, Any]) -> None:
    judge = authority()
    judge.question(PAY, {"a": 1}).permission(PermissionResultAllow(updated_input=updated))
    assert runs(judge, updated or {"a": 1})
    assert not runs(judge, {"a": 1})


def test_what_is_changed_by_the_function_that_was_asked_is_not_what_was_asked() -> None:
    judge, given = authority(), {"a": 1}
    question = judge.question(PAY, given)
    given["a"] = 2
    question.permission(PermissionResultAllow())
    assert not runs(judge, {"a": 2})
    assert runs(judge, {"a": 1})


def test_an_answer_lasts_to_the_end_of_the_next_turn() -> None:
    judge = authority()
    for turns in (1, 2):
        judge.question(PAY, {}).permission(PermissionResultAllow())
        for _ in range(turns):
            judge.turn_ended()
        assert runs(judge) == (turns == 1)


def test_rules_and_modes_of_an_answer_count_from_then_on() -> None:
    rule = [PermissionRuleValue(tool_name="mcp__own")]
    judge = authority()

    def update(**fields: Any) -> None:
        answer = PermissionResultAllow(updated_permissions=[PermissionUpdate(**fields)])
        judge.question("Bash", {"command": "ls"}).permission(answer)

    update(type="addRules", rules=rule, behavior="allow")
    assert [runs(judge), runs(judge)] == [True, True]
    update(type="removeRules", rules=rule, behavior="allow", destination="localSettings")
    assert runs(judge)
    update(type="removeRules", rules=rule, behavior="allow", destination="session")
    assert not runs(judge)
    update(type="replaceRules", rules=rule, behavior="allow", destination="session")
    assert runs(judge)
    update(type="addRules", rules=rule, behavior="deny")
    assert not runs(judge)
    update(type="replaceRules", rules=[], behavior="deny")
    update(type="replaceRules", rules=[], behavior="allow")
    assert not runs(judge)
    update(type="setMode", mode="bypassPermissions")
    assert runs(judge)


async def hook(*_: object) -> Any:
    return {}


def test_every_hook_that_applies_must_have_been_asked_and_none_may_deny() -> None:
    hooks = {
        "PreToolUse": [
            HookMatcher(matcher="mcp__own__.*", hooks=[hook, hook]),
            HookMatcher(hooks=[hook]),
            HookMatcher(matcher="Bash|Write", hooks=[hook]),
        ]
    }
    judge = authority(hooks, allowed_tools=["mcp__own"])
    ask_hook(judge, {}, {})
    ask_hook(judge, {}, {}, hook=1)
    assert not runs(judge)
    ask_hook(judge, {}, {}, matcher=1)
    assert runs(judge)
    assert not runs(judge)
    for matcher, number, answer in ((0, 0, {}), (0, 1, verdict(permissionDecision="deny")), (1, 0, {})):
        ask_hook(judge, {}, answer, matcher=matcher, hook=number)
    assert not runs(judge)


@pytest.mark.parametrize(
    ("pattern", "applies"),
    [
        (r"(?<name>own)", True),
        (r"^mcp__(?<kind>[a-z])wn__p\ay$", True),
        (r"(?<two>_)\k<two>pay", True),
        (r"(?<!mcp__)own", False),
        (r"(?<kind>other)", False),
        (r"\(?x|\[]", False),
        (r"\Amcp", False),  # JavaScript reads a letter
    ],
)
def test_a_pattern_of_javascript_is_read_as_the_cli_reads_it(pattern: str, applies: bool) -> None:
    judge = authority(
        {"PreToolUse": [HookMatcher(matcher=pattern, hooks=[hook])]}, allowed_tools=["mcp__own"]
    )
    assert runs(judge) != applies
    ask_hook(judge, {}, {})
    assert runs(judge)


UNREADABLE = [r"(?<=mcp__|x)own", r"[]own", r"(?P<name>own)", "(?i)own", "(own"]


@pytest.mark.parametrize("pattern", UNREADABLE)
def test_a_hook_whose_pattern_the_host_cannot_read_guards_each_tool(pattern: str) -> None:
    judge = authority(
        {"PreToolUse": [HookMatcher(matcher=pattern, hooks=[hook])]}, allowed_tools=["mcp__own"]
    )
    assert not runs(judge)


@pytest.mark.parametrize("event", ["PreToolUse", "PermissionRequest"])
@pytest.mark.parametrize("pattern", UNREADABLE)
def test_such_a_pattern_is_refused_at_the_start_where_it_could_guard_a_tool_of_the_host(
    event: str, pattern: str
) -> None:
    hooks = {"hooks": {event: [HookMatcher(matcher=pattern, hooks=[hook])]}}
    with pytest.raises(ConfigError, match="which the host cannot read as the CLI does"):
        take_callbacks({**hooks, "mcp_servers": {"own": create_sdk_mcp_server("own")}})
    assert take_callbacks(hooks).hooks[event]


def test_a_hook_approves_with_the_input_that_it_returns() -> None:
    judge = authority({"PreToolUse": [HookMatcher(hooks=[hook])]})
    ask_hook(judge, {"a": 1}, verdict(permissionDecision="allow", updatedInput={"a": 2}))
    assert not runs(judge, {"a": 1})
    assert runs(judge, {"a": 2})
    ask_hook(judge, {"a": 1}, {"decision": "approve"})
    assert runs(judge, {"a": 1})


def test_what_a_hook_wants_to_be_asked_runs_only_with_an_answer() -> None:
    judge = authority({"PreToolUse": [HookMatcher(hooks=[hook])]}, allowed_tools=[PAY])
    ask_hook(judge, {"a": 1}, verdict(permissionDecision="ask"))
    assert not runs(judge, {"a": 1})
    judge.question(PAY, {"a": 1}).permission(PermissionResultAllow())
    assert runs(judge, {"a": 1})


def test_an_answer_to_a_question_that_a_hook_has_changed_counts() -> None:
    judge = authority({"PreToolUse": [HookMatcher(hooks=[hook])]})
    ask_hook(judge, {"a": 1}, verdict(updatedInput={"a": 2}))
    judge.question(PAY, {"a": 2}).permission(PermissionResultAllow(updated_input={"a": 3}))
    assert runs(judge, {"a": 3})
    assert not runs(judge, {"a": 3})


@pytest.mark.parametrize(("on_failure", "blocks"), [(None, False), ("continue", False), ("block", True)])
def test_a_hook_that_fails_counts_as_its_matcher_says(on_failure: Any, blocks: bool) -> None:
    hooks = {"PreToolUse": [HookMatcher(hooks=[hook], on_failure=on_failure)]}
    judge = authority(hooks, allowed_tools=["mcp__own"])
    ask_hook(judge, {}, ValueError("fails"))
    assert runs(judge) != blocks


def test_a_permission_request_hook_decides_too() -> None:
    hooks = {
        "PermissionRequest": [
            HookMatcher(matcher=PAY, hooks=[hook]),
            HookMatcher(matcher="Bash", hooks=[hook]),
        ]
    }
    judge = authority(hooks)
    allowed = verdict("PermissionRequest", decision={"behavior": "allow", "updatedInput": {"a": 2}})
    ask_hook(judge, {"a": 1}, allowed, event="PermissionRequest", matcher=1)
    assert not runs(judge, {"a": 2})
    ask_hook(judge, {"a": 1}, allowed, event="PermissionRequest")
    assert runs(judge, {"a": 2})


def test_a_call_that_the_server_has_answered_with_a_question_may_come_once_more() -> None:
    judge = authority({"PreToolUse": [HookMatcher(hooks=[hook])]})
    judge.go_on("own", "pay", {"a": 1})
    assert not runs(judge, {"a": 2})
    assert runs(judge, {"a": 1})
    assert not runs(judge, {"a": 1})


def test_a_driver_that_came_while_a_call_was_under_way_says_that_it_can_be_made_again() -> None:
    judge = ToolAuthority({"PreToolUse": [HookMatcher(hooks=[hook])]})
    assert "it can be called again" in str(judge.refusal("own", "pay", {}))


def test_each_decision_is_told_and_refusals_are_counted() -> None:
    told: list[Any] = []

    def note(kind: str, tool: str, *, question: object, by: str, given: Any) -> None:
        del question
        told.append((kind, tool, by, given))

    judge = authority(allowed_tools=["mcp__own__look"])
    judge.on_decision = note
    assert not runs(judge, {"a": 1})
    assert runs(judge, tool="look")
    assert [(kind, tool) for kind, tool, _, _ in told] == [("deny", PAY), ("allow", "mcp__own__look")]
    assert (told[0][3], told[1][2]) == ({"a": 1}, "allowed_tools")
    assert judge.refused == {PAY: 1}

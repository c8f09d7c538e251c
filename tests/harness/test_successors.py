"""What a test proved that is gone, another test proves."""

from __future__ import annotations

import ast
from pathlib import Path

PARITY = "parity/test_parity.py::test_a_hosted_agent_shows_what_the_bare_sdk_shows"
ROOT = Path(__file__).parents[2]
# Tests that were deleted, merged or renamed, each with the test that proves the same now.
SUCCESSORS = {
    f"tests/{gone}": f"tests/{successor}"
    for gone, successor in {
        "agent/test_many.py::test_twenty_agents_in_one_sandbox_each_hear_their_own_answers": (
            "agent/test_many.py::test_agents_in_one_sandbox_each_hear_their_own_answers"
        ),
        "agent/test_many.py::test_two_hundred_agents_on_one_host_lose_nothing": (
            "agent/test_many.py::test_many_agents_on_one_host_lose_nothing"
        ),
        "agent/test_memory.py::test_200_mb_that_nobody_reads_stay_out_of_the_hosts_memory_and_none_is_lost": (
            "agent/test_memory.py::"
            "test_100_mb_that_nobody_reads_stay_out_of_the_hosts_memory_and_none_is_lost"
        ),
        "guest/test_boot.py::test_a_call_that_makes_no_sense_is_told_how": (
            "guest/test_program.py::test_a_guest_called_wrongly_says_how"
        ),
        "examples/test_detach_and_attach.py::"
        "test_killed_after_every_message_before_the_answer_the_log_holds_each_once": (
            "examples/test_detach_and_attach.py::test_killed_in_every_step_the_log_holds_each_message_once"
        ),
        "agent/test_options.py::test_ways_that_are_not_there_yet_are_refused": (
            "agent/test_options.py::test_ways_that_are_not_there_are_refused"
        ),
        "cli/test_command_line.py::test_it_tells_its_version": (
            "cli/test_command_line.py::test_the_installed_command_tells_its_version"
        ),
        "files/test_ignore.py::test_the_ignore_file_can_let_a_credential_travel": (
            "files/test_ignore.py::test_only_the_caller_lets_a_credential_travel"
        ),
        "packaging/test_readme.py::test_the_commands_of_the_readme_exist_with_their_options": (
            "packaging/test_command_lines.py::test_it_is_taken"
        ),
        "packaging/test_detached_page.py::test_the_commands_exist_with_their_options": (
            "packaging/test_command_lines.py::test_it_is_taken"
        ),
        # The table of parity has each of these as a scenario.
        "agent/test_hosted_agent.py::test_stderr_of_the_cli_reaches_the_callback": PARITY,
        "agent/test_hosted_agent.py::test_query_takes_a_stream_of_prompts": PARITY,
        "agent/test_hosted_agent.py::test_query_raises_result_error_after_an_error_result": PARITY,
    }.items()
}


def exists(test: str) -> bool:
    """Return whether a test, as ``file::name`` or ``file::class::name``, is in its file."""
    file, *names = test.split("::")
    path = ROOT / file
    if not path.is_file():
        return False
    body: list[ast.stmt] = ast.parse(path.read_text()).body
    for name in names:
        found = [one for one in body if getattr(one, "name", None) == name]
        if not found:
            return False
        body = getattr(found[0], "body", [])
    return True


def test_the_successor_of_each_test_that_is_gone_is_there() -> None:
    assert {gone: successor for gone, successor in SUCCESSORS.items() if not exists(successor)} == {}


def test_a_test_that_has_a_successor_is_gone() -> None:
    assert [gone for gone in SUCCESSORS if exists(gone)] == []

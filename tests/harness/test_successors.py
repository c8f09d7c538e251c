"""What a test proved that is gone, another test proves."""

from __future__ import annotations

import ast
from pathlib import Path

PARITY = "parity/test_parity.py::test_a_hosted_agent_shows_what_the_bare_sdk_shows"
ROOT = Path(__file__).parents[2]


def _file_of(test: str) -> str:
    """Return which file of tests/providers has a test of every adapter."""
    return "test_closing.py" if test.startswith("test_it_is_opened") else "test_every_adapter.py"


# By file, tests that an adapter had of its own, each with the test of every adapter that proves the same.
_OF_ADAPTERS: dict[str, dict[str, str]] = {
    "e2b/test_e2b_errors.py": {
        "test_each_error_of_the_vendor_has_a_meaning": ("test_each_error_of_the_vendor_has_its_meaning"),
        "test_a_secret_that_e2b_quotes_is_not_in_the_error": (
            "test_no_error_holds_a_secret_that_the_vendor_quotes"
        ),
        "test_without_a_key_the_error_names_argument_and_variable": (
            "test_a_credential_that_is_missing_is_named_with_every_argument_and_variable"
        ),
        "test_the_key_is_shown_nowhere": ("test_a_credential_that_is_refused_is_in_no_error_and_no_repr"),
        "test_trio_is_refused_by_name_before_anything_is_asked": (
            "test_trio_is_refused_by_name_before_any_call"
        ),
    },
    "e2b/test_e2b_bake.py": {
        "test_a_name_holds_the_sdks_version_and_changes_with_all_that_goes_in": (
            "test_an_image_is_named_by_all_that_goes_into_it"
        ),
    },
    "e2b/test_e2b_lifecycle.py": {
        "test_a_lost_answer_to_create_is_found_by_name_and_made_once": (
            "test_a_create_whose_answer_is_lost_is_found_and_used"
        ),
        "test_a_create_that_was_cut_off_and_made_nothing_is_an_error_and_not_tried_again": (
            "test_a_create_that_made_nothing_is_an_error_and_not_tried_again"
        ),
        "test_cancelled_while_e2b_makes_it_nothing_is_left": (
            "test_a_create_that_is_cancelled_leaves_nothing"
        ),
        "test_a_sandbox_that_is_not_ours_is_neither_listed_nor_taken": (
            "test_a_sandbox_that_agenthost_did_not_make_is_neither_listed_nor_taken"
        ),
    },
    "modal_provider/test_modal_errors.py": {
        "test_each_error_of_modals_has_a_meaning_beside_its_text": (
            "test_each_error_of_the_vendor_has_its_meaning"
        ),
        "test_every_row_of_the_table_is_tried": (
            "test_each_row_of_the_table_of_errors_is_the_first_that_fits_an_example"
        ),
        "test_a_refused_credential_names_where_it_comes_from": (
            "test_each_error_of_the_vendor_has_its_meaning"
        ),
        "test_an_old_image_builder_is_named_with_what_to_do": (
            "test_each_error_of_the_vendor_has_its_meaning"
        ),
        "test_a_secret_in_modals_text_is_not_in_the_error": (
            "test_no_error_holds_a_secret_that_the_vendor_quotes"
        ),
    },
    "modal_provider/test_modal_opening.py": {
        "test_without_a_credential_both_ways_to_give_it_are_named": (
            "test_a_credential_that_is_missing_is_named_with_every_argument_and_variable"
        ),
        "test_without_modals_client_the_error_says_how_to_get_it": (
            "test_without_the_vendors_package_the_error_holds_the_command_that_installs_it"
        ),
        "test_on_trio_it_is_refused_before_any_call": ("test_trio_is_refused_by_name_before_any_call"),
    },
    "modal_provider/test_modal_create.py": {
        "test_a_namesake_of_somebody_else_is_neither_used_nor_ended": (
            "test_a_name_that_is_taken_is_refused_and_the_one_that_has_it_lives_on"
        ),
        "test_a_create_without_any_answer_is_not_tried_again_by_us": (
            "test_a_create_that_made_nothing_is_an_error_and_not_tried_again"
        ),
    },
    "modal_provider/test_modal_images.py": {
        "test_an_image_is_known_by_a_hash_of_what_goes_in": (
            "test_an_image_is_named_by_all_that_goes_into_it"
        ),
    },
    "docker/test_docker_lifecycle.py": {
        "test_a_lost_answer_to_create_is_found_by_name_and_made_once": (
            "test_a_create_whose_answer_is_lost_is_found_and_used"
        ),
        "test_a_name_belongs_to_one_sandbox": (
            "test_a_name_that_is_taken_is_refused_and_the_one_that_has_it_lives_on"
        ),
    },
    "adapter/test_provider_connect.py": {
        "test_a_provider_is_used_without_a_block_and_each_call_may_be_made_in_another_task": (
            "test_it_is_opened_and_closed_in_any_task_and_its_sandboxes_run_on"
        ),
        "test_connect_returns_the_provider_and_works_again_after_a_close": (
            "test_it_is_opened_again_after_a_close_and_closed_as_often_as_one_likes"
        ),
        "test_a_connected_provider_refuses_to_connect_and_stays_connected": (
            "test_it_is_opened_again_after_a_close_and_closed_as_often_as_one_likes"
        ),
        "test_closing_is_idempotent_and_needs_no_connect": (
            "test_it_is_opened_again_after_a_close_and_closed_as_often_as_one_likes"
        ),
    },
}

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
        "e2b/test_e2b_errors.py::test_the_vendors_package_is_not_imported_on_the_event_loop": (
            "e2b/test_e2b_import.py::test_the_vendors_package_is_not_imported_on_the_event_loop"
        ),
        # The table of parity has each of these as a scenario.
        "agent/test_hosted_agent.py::test_stderr_of_the_cli_reaches_the_callback": PARITY,
        "agent/test_hosted_agent.py::test_query_takes_a_stream_of_prompts": PARITY,
        "agent/test_hosted_agent.py::test_query_raises_result_error_after_an_error_result": PARITY,
    }.items()
} | {
    f"tests/{file}::{gone}": f"tests/providers/{_file_of(successor)}::{successor}"
    for file, tests in _OF_ADAPTERS.items()
    for gone, successor in tests.items()
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

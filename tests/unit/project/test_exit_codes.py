"""Each code ends the process in one way, and only what is wrong with a command line ends it as usage does."""

from __future__ import annotations

import ast
from collections import defaultdict
from functools import cache

from documents import CHECKOUT

from keys.errors import Exit, LawRefused, Refused, Unavailable, UsageError

ROOMS = ("keys", "ledger", "policies", "executor")
ENDS = {"CalyxError": Exit.REFUSED, "FormatError": Exit.REFUSED, "SignatureRefused": Exit.REFUSED} | {
    error.__name__: error.exit_code for error in (LawRefused, Refused, Unavailable, UsageError)
}
KEYWORD = {"FormatError", "SignatureRefused"}
"""Errors whose code is a keyword."""
WRONG_WORDS = """
    attach_alone bad_comment bad_duration bad_listen bad_name bad_option bad_tiers json_misplaced no_checkpoint no_id
    no_source no_subject no_transport no_words not_new nothing_proposed nothing_recorded prepare_alone
    reason_misplaced reason_missing recovery_undecided revert_misplaced same_key source_undecided target_missing
    two_forms two_steps unknown_agent unknown_field
"""
TOO_FEW_WORDS = "ambiguous_id which_one who_are_you"
"""One word more settles it."""
WRONG_PLACES = """
    already_prepared backup_of_another bad_address bad_ssh_command directory_not_empty directory_of_another file_exists
    file_unreadable home_not_here key_exists no_old_ledger no_path no_public_key no_such_user not_a_backup
    not_a_directory not_a_source not_an_export not_prepared private_key_given source_missing
"""
"""A file, a directory or an address that cannot be used as it was meant."""
NO_TERMINAL = "passphrase_needed"
USAGE = {code for codes in (WRONG_WORDS, TOO_FEW_WORDS, WRONG_PLACES, NO_TERMINAL) for code in codes.split()}
TWO_WAYS = {"file_unreadable": {Exit.USAGE, Exit.UNAVAILABLE}}
"""A file that was named, or one that an executor or a store came across."""


@cache
def codes() -> dict[str, set[Exit]]:
    """Every code that is written down where it is raised, and how it ends."""
    found: dict[str, set[Exit]] = defaultdict(set)
    for room in ROOMS:
        for path in (CHECKOUT / room).rglob("*.py"):
            for call in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in ENDS:
                    named = [word.value for word in call.keywords if word.arg == "code"]
                    given = named if call.func.id in KEYWORD else call.args[:1]
                    found_here = [each.value for each in given if isinstance(each, ast.Constant)]
                    for code in found_here:
                        found[str(code)].add(ENDS[call.func.id])
    return found


def test_code_ends_in_one_way() -> None:
    assert {code: ends for code, ends in codes().items() if len(ends) > 1} == TWO_WAYS


def test_usage_is_a_command_line_that_no_ledger_would_make_right() -> None:
    assert {code for code, ends in codes().items() if Exit.USAGE in ends} == USAGE


def test_what_the_ledger_says_no_to_is_refused() -> None:
    for code in ("no_change", "unknown_lease", "unknown_target", "unknown_principal", "not_a_human", "look_needed"):
        assert codes()[code] == {Exit.REFUSED}


def test_what_is_not_there_now_is_unavailable() -> None:
    for code in ("ledger_missing", "key_missing", "not_signed", "object_missing", "cannot_write_key"):
        assert codes()[code] == {Exit.UNAVAILABLE}

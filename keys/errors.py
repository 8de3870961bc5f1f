"""The error root: every refusal has a stable code, one line for a person, and a hint.

A program reads `code`; a person reads `message` and `hint`. Codes are part of the interface and never change their
meaning. An exception that is not a `CalyxError` is a bug.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Exit(IntEnum):
    """Process exit codes, the same for every command."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    ROLLED_BACK = 3
    ROLLBACK_FAILED = 4
    UNAVAILABLE = 5
    WAITING = 6


class CalyxError(Exception):
    """A refusal that a person or a program can act on.

    `code`: stable identifier, lower case with underscores. `hint`: one line that says what to do, or "".
    `fields`: values that a program may read (JSON scalars). `exit_code`: what the process ends with.
    """

    exit_code: Exit = Exit.REFUSED

    def __init__(self, code: str, message: str, *, hint: str = "", **fields: str | int | None) -> None:
        super().__init__(message)
        self.code: Final = code
        self.message: Final = message
        self.hint: Final = hint
        self.fields: Final = fields

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class FormatError(CalyxError):
    """Bytes or a value that are not in their one canonical form, or are over a limit."""

    def __init__(self, message: str, *, code: str = "bad_format", hint: str = "", **fields: str | int | None) -> None:
        super().__init__(code, message, hint=hint, **fields)


class SignatureRefused(CalyxError):
    """A signature, key or signer that does not prove what it claims."""

    def __init__(
        self, message: str, *, code: str = "bad_signature", hint: str = "", **fields: str | int | None
    ) -> None:
        super().__init__(code, message, hint=hint, **fields)


class LawRefused(CalyxError):
    """A statement that is unlawful at its position. `rule` names the rule; `fields` may hold `step` and `entry`."""

    def __init__(self, code: str, message: str, *, rule: str, hint: str = "", **fields: str | int | None) -> None:
        super().__init__(code, message, hint=hint, rule=rule, **fields)
        self.rule: Final = rule


class Refused(CalyxError):
    """The command line is right, and the ledger, the home, a file's content or a typed answer says no; nothing was
    tried.
    """


class UsageError(CalyxError):
    """The command line is wrong, or says too little, or names a file or directory that cannot be used; nothing was
    tried.
    """

    exit_code = Exit.USAGE


class Unavailable(CalyxError):
    """Something needed is not there now: a ledger, an object, a host, a lock. Trying later may work."""

    exit_code = Exit.UNAVAILABLE

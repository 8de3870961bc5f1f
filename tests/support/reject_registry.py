"""Where forgeries are listed: a name, the moment they start from, and the code that the law must give."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from forging import Forge

Doing: TypeAlias = Callable[[Forge], None]


@dataclass(frozen=True)
class Forgery:
    """A forgery. `story`, `moment`: what it starts from. `code`: of the refusal. `what`: what was changed, in words."""

    name: str
    what: str
    story: str
    moment: str
    code: str
    doing: Doing

    @property
    def followed(self) -> bool:
        """Whether something lawful is said after it. What is no statement at all needs none, and takes much room."""
        return not self.name.startswith(("shape-", "move-", "statement-", "record-"))


FORGERIES: dict[str, Forgery] = {}


def reject(moment: str, code: str, story: str = "main") -> Callable[[Doing], Doing]:
    """List a forgery, a function named for it whose docstring says what was changed."""

    def list_it(doing: Doing) -> Doing:
        add(doing.__name__.strip("_"), doing.__doc__ or "", moment, code, doing, story)
        return doing

    return list_it


def add(name: str, what: str, moment: str, code: str, doing: Doing, story: str = "main") -> None:
    """List a forgery."""
    plain = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")
    # Bad values can look alike once they are file names.
    name = next(each for each in (plain, *(f"{plain}-{n}" for n in range(2, 20))) if each not in FORGERIES)
    FORGERIES[name] = Forgery(name, " ".join(what.split()), story, moment, code, doing)

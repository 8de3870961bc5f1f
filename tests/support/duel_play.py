"""Plays duels: ledgers that grow by what people and machines would say, with each statement bent now and then before it
is said as it is.

    PYTHONPATH=.:tests/support python tests/support/duel_play.py FIRST_SEED SECONDS

plays for so long and prints what the verifiers disagreed on, what was reached, and how much that was.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from duel import Attempt, Difference, Duel, same_code
from duel_bends import Bender
from duel_course import Course
from forging import LOG_KEY
from fuzzing import bounded
from station import Clock
from verdicts import Verdict

from keys.errors import CalyxError
from keys.values import parse_time
from ledger.sqlite.store import SqliteStore
from policies.registrar import Registrar

# What is said most is bent least: there is more of it than of what is said at the end of a long way.
ODDS = {"intent": 0.1, "lease": 0.3, "fleet": 0.2, "term": 0.4, "cosignature": 0.4, "review": 0.4}
USUAL = 0.9


def play(seed: int, steps: int) -> Duel:
    """A duel of so many steps; each of them is one statement, and how it was bent before."""
    random = Random(seed)
    duel = Duel(random)
    course = Course(duel)
    bender = Bender(course)
    for _ in range(steps):
        draft = course.next()
        if draft is None:
            continue
        odds = ODDS.get(draft.kind, USUAL)
        if random.random() < odds:
            for _ in range(random.choice((1, 2, 3, 4) if odds == USUAL else (1, 1, 2))):
                bender.bend(draft, random.choice((1, 1, 1, 2, 3)))
        bender.say(draft)
        roll = random.random()
        if roll < 0.6:
            duel.forge.now += random.choice((0, 0, 1, 5))
        elif roll < 0.61 and duel.forge.records:
            jump = parse_time(bender.a_time()) - duel.forge.now
            duel.forge.now += jump if 0 < jump < random.choice((1_200, 86_400)) else 0
    return duel


def check_whole(duel: Duel, count: int) -> None:
    """Whole ledgers, as both verifiers read them: as it is, and with an entry forced behind it, so many times."""
    refused = duel.forced
    for envelope in [None, *duel.random.sample(refused, min(count, len(refused)))]:
        ours, theirs = duel.finish(envelope)
        if not _same(ours, theirs):
            duel.differences.append(Difference("ledger", ours.code, theirs.code, f"{ours} {theirs} {envelope}"))


def _same(ours: Verdict, theirs: Verdict) -> bool:
    return ours.entry == theirs.entry and same_code(ours.code, theirs.code)


def check_registrar(duel: Duel, folder: Path) -> int:
    """Everything again, through a registrar: it takes what both took, as the same entries, and says why it takes
    nothing else. Several in one commit are taken together or not at all. How many attempts it judged.
    """
    clock, count = Clock(), 0
    with SqliteStore.create(folder / "ledger.db") as store:
        registrar = Registrar(
            store, duel.forge.objects, LOG_KEY, None, clock=clock, random=Random(0).randbytes, accept_clock=True
        )
        waiting: list[Attempt] = []
        for attempt in duel.log:
            together = bool(waiting) and waiting[0].time == attempt.time
            if waiting and (not together or attempt.code is not None):
                batch = waiting if attempt.code is None or not together else [*waiting, attempt]
                clock.now = batch[0].time
                count += _submit(duel, registrar, batch)
                if batch is not waiting:
                    count += _submit(duel, registrar, waiting)
                waiting = []
            if attempt.code is None:
                waiting.append(attempt)
                continue
            clock.now = attempt.time
            count += _submit(duel, registrar, [attempt])
    return count


def _submit(duel: Duel, registrar: Registrar, batch: list[Attempt]) -> int:
    size, said = registrar.head.size, {record.envelope.body: record.seq for record in duel.forge.records}
    try:
        receipts = registrar.append([attempt.envelope for attempt in batch])
    except CalyxError as error:
        assert error.code == batch[-1].code, (error.code, batch[-1])
        assert registrar.sync().size == size, "a part of what was refused was appended"
        return len(batch)
    for attempt, receipt in zip(batch, receipts, strict=True):
        # What was said before gives the entry that it made.
        assert attempt.code is None or said.get(attempt.envelope.body) == receipt.seq, attempt
        assert receipt.leaf == duel.forge.records[receipt.seq].leaf
    return len(batch)


def main(first: int, seconds: float) -> None:
    """Play until so much of this process's time is over."""
    refused, taken, odd = Counter[str](), Counter[str](), dict[tuple[str, str | None, str | None], list[str]]()
    seed, begin, judged = first, time.process_time(), 0
    while time.process_time() - begin < seconds:
        with bounded(120):
            duel = play(seed, 300)
            check_whole(duel, 3)
        if seed % 4 == 0:
            with bounded(120), TemporaryDirectory() as folder:
                judged += check_registrar(duel, Path(folder))
        for each in duel.differences:
            odd.setdefault((each.kind, each.ours, each.theirs), []).append(f"seed {seed}: {each.what}")
        refused += duel.refused
        taken += duel.taken
        seed += 1
    print(f"{seed - first} ledgers, {taken.total()} entries, {refused.total()} refused by {len(refused)} codes")  # noqa: T201
    print(f"{judged} attempts through a registrar")  # noqa: T201
    print(dict(taken.most_common()), dict(refused.most_common()), sep="\n")  # noqa: T201
    for key, examples in sorted(odd.items(), key=lambda item: -len(item[1])):
        print(key, len(examples), *examples[:3], sep="\n    ")  # noqa: T201


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))

"""Effects under way: ways back never wait for ways forward, and one instance has one thing under way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from executor.rollout.effects import Outcome
from executor.rollout.work import Result, Work
from keys.errors import CalyxError

LIMIT_S = 60


@pytest.fixture
def work() -> Iterator[Work]:
    made = Work(lambda _: ThreadPoolExecutor(1))
    yield made
    made.close()


class Queue:
    """An effect that waits, and one behind it."""

    def __init__(self) -> None:
        self.began, self.go_on = threading.Event(), threading.Event()
        self.late: list[str] = []

    def slow(self) -> Outcome:
        self.began.set()
        return Outcome(rebuilt=self.go_on.wait(2 * LIMIT_S))

    def never(self) -> Outcome:
        self.late.append("web-2")
        return Outcome()


def wait_for(work: Work, digest: str) -> list[Result]:
    turn = threading.Event()
    for _ in range(LIMIT_S * 100):
        results = work.take(digest)
        if results:
            return results
        turn.wait(0.01)
    raise AssertionError(f"no result of {digest}")


def test_way_back_does_not_wait_for_a_way_forward_that_hangs(work: Work) -> None:
    hangs = threading.Event()

    def hang() -> Outcome:
        hangs.wait(2 * LIMIT_S)
        return Outcome()

    work.begin("forward", {"web-1": hang}, back=False)
    try:
        work.begin("back", {"web-2": lambda: Outcome(rebuilt=True)}, back=True)
        assert wait_for(work, "back") == [Result("web-2", back=True, failure=None, outcome=Outcome(rebuilt=True))]
        assert work.busy("forward")
    finally:
        hangs.set()
    assert wait_for(work, "forward")
    assert work.idle


def test_instance_has_one_thing_under_way(work: Work) -> None:
    work.begin("one", {"web-1": Outcome}, back=False)
    with pytest.raises(ValueError, match="under way"):
        work.begin("one", {"web-1": Outcome}, back=True)
    assert [result.name for result in wait_for(work, "one")] == ["web-1"]


def test_deployment_that_turns_back_begins_nothing_forward_and_waits_for_what_began(work: Work) -> None:
    queue = Queue()
    # One worker for each way: the second effect waits for the first.
    work.begin("one", {"web-1": queue.slow, "web-2": queue.never}, back=False)
    assert queue.began.wait(LIMIT_S)
    work.turn_back("one")
    assert work.under_way("one") == {"web-1": False}
    work.begin("one", {"web-2": Outcome}, back=True)
    assert wait_for(work, "one") == [Result("web-2", back=True, failure=None)]
    queue.go_on.set()
    assert wait_for(work, "one") == [Result("web-1", back=False, failure=None, outcome=Outcome(rebuilt=True))]
    work.turn_back("one")
    assert work.idle
    assert queue.late == []


def test_defect_on_one_instance_is_its_failure_alone(work: Work) -> None:
    def refuse() -> Outcome:
        raise CalyxError("host_busy", "not now")

    def defect() -> Outcome:
        raise KeyError("web-2\x1b[2J")

    work.begin("one", {"web-1": refuse, "web-2": defect, "web-3": Outcome}, back=False)
    results: dict[str, Result] = {}
    while work.busy("one"):
        results |= {result.name: result for result in wait_for(work, "one")}
    codes = {name: result.failure and result.failure.code for name, result in results.items()}
    assert codes == {"web-1": "host_busy", "web-2": "internal_error", "web-3": None}
    failure = results["web-2"].failure
    assert failure is not None
    assert failure.text.isprintable()


def test_work_that_is_to_rest_ends_what_began_and_begins_nothing_more(work: Work) -> None:
    queue = Queue()
    # One worker: the second effect waits for the first.
    work.begin("digest", {"web-1": queue.slow, "web-2": queue.never}, back=False)
    assert queue.began.wait(LIMIT_S)
    assert not work.come_to_rest(0)
    queue.go_on.set()
    assert work.come_to_rest(LIMIT_S)
    assert work.take_rest() == {"digest": [Result("web-1", back=False, failure=None, outcome=Outcome(rebuilt=True))]}
    assert work.idle
    assert queue.late == []

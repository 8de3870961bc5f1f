"""Who is told to end does so, whatever was being done at that moment: a run, and a question to a person."""

from __future__ import annotations

import os
import pty
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from types import FrameType
from typing import Any

import pytest

from executor.commands.running import stopping
from executor.commands.terminal import ask

PATIENCE_S = 20


@pytest.fixture(autouse=True)
def _bounded() -> Iterator[None]:
    """What waits for itself would wait for ever."""

    def give_up(number: int, frame: FrameType | None) -> None:
        raise AssertionError("it does not end")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def signal_at(instruction: int) -> Iterator[list[int]]:
    """Tell this process to end just before so many instructions of what is called here. Yields how many there were."""
    seen = [0]

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        del argument
        frame.f_trace_opcodes = True
        if event == "opcode":
            seen[0] += 1
            if seen[0] == instruction:
                os.kill(os.getpid(), signal.SIGTERM)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield seen
    finally:
        sys.settrace(before)


def test_signal_at_any_instruction_of_the_wait_is_heard() -> None:
    """A handler runs in the middle of whatever the process does: what it takes, the wait must not hold."""
    instruction, reached = 0, True
    while reached:
        instruction += 1
        with stopping() as stop:
            with signal_at(instruction) as seen:
                stop.wait(0.001)
            reached = seen[0] >= instruction
            assert stop.wait(0) == reached
            assert stop.signal == (signal.SIGTERM if reached else None)
    assert instruction > 20


def test_signal_is_not_lost_between_the_last_look_and_the_wait() -> None:
    """Then it was delivered, and its handler did not run yet: what only the handler wakes would go to sleep on it."""
    chance = Random(7)
    for _ in range(300):
        with stopping() as stop, awake():
            signal.signal(signal.SIGALRM, stop.on_signal)
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 4e-5), PATIENCE_S)
            assert stop.wait(3_600)


def test_interrupt_between_a_question_and_its_answer_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who interrupts does it at once when the question is there; nothing would happen until they type another line."""
    chance = Random(7)

    def interrupt_soon(text: str, **_: object) -> None:
        if text:
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 3e-5), PATIENCE_S)

    monkeypatch.setattr("executor.commands.terminal.typer.echo", interrupt_soon)
    master, slave = pty.openpty()
    with os.fdopen(slave, encoding="utf-8") as person:
        monkeypatch.setattr(sys, "stdin", person)
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        for _ in range(300):
            with awake(), pytest.raises(KeyboardInterrupt):
                ask("Sign?")
    os.close(master)


@contextmanager
def awake() -> Iterator[None]:
    """What happens here was not woken by the second alarm, which comes after `PATIENCE_S`."""
    began = time.monotonic()
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert time.monotonic() - began < PATIENCE_S / 2, "it slept on the first signal"


def test_second_interrupt_ends_at_once() -> None:
    with stopping() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert stop.wait(3_600)

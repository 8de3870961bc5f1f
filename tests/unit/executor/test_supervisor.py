from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from executor.rollout.supervisor import Supervisor


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.setblocking(False)
        yield channel


def everything(channel: socket.socket) -> list[str]:
    said = []
    try:
        while True:
            said.append(channel.recv(1_024).decode())
    except BlockingIOError:
        return said


def test_supervisor_hears_of_begin_state_and_end(heard: socket.socket) -> None:
    supervisor = Supervisor({"NOTIFY_SOCKET": heard.getsockname()}, lambda: 0.0)
    supervisor.ready("reading\nthe ledger")
    supervisor.status("cp20 acts")
    supervisor.alive()
    supervisor.stopping()
    assert everything(heard) == ["READY=1\nSTATUS=reading the ledger", "STATUS=cp20 acts", "STOPPING=1"]


def test_watchdog_is_told_twice_in_its_time_and_not_at_every_round(heard: socket.socket) -> None:
    now = 0.0
    environment = {"NOTIFY_SOCKET": heard.getsockname(), "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}
    supervisor = Supervisor(environment, lambda: now)
    for _ in range(600):
        supervisor.alive()
        now += 0.2
    assert everything(heard) == ["WATCHDOG=1"] * 4


def test_watchdog_of_another_process_is_not_ours(heard: socket.socket) -> None:
    environment = {"NOTIFY_SOCKET": heard.getsockname(), "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}
    Supervisor(environment, lambda: 0.0).alive()
    assert everything(heard) == []


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "/nowhere/at/all", "WATCHDOG_USEC": "x"}])
def test_supervisor_that_is_not_there_stops_nothing(environment: dict[str, str]) -> None:
    supervisor = Supervisor(environment, lambda: 0.0)
    supervisor.ready("x")
    supervisor.alive()
    supervisor.stopping()

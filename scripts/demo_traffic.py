"""The demo's traffic: asks every service for / a few times a second, and writes the station's TES once a second.

Arguments: seconds to live, file for the TES, ports. Bounded in time; a service that is down is asked again later.
"""

from __future__ import annotations

import http.client
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

PERIOD_S = 0.15


def ask(port: int, until: float) -> None:
    """Ask one service until the time is over."""
    connection: http.client.HTTPConnection | None = None
    while time.monotonic() < until:
        try:
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            connection.request("GET", "/")
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            if connection is not None:
                connection.close()
            connection = None
        time.sleep(PERIOD_S)


def main() -> None:
    """Run until the time is over."""
    until = time.monotonic() + float(sys.argv[1])
    path = Path(sys.argv[2])
    for port in sys.argv[3:]:
        threading.Thread(target=ask, args=(int(port), until), daemon=True).start()
    with path.open("a", encoding="utf-8") as file:
        if not file.tell():
            file.write("timestamp,tes\n")
        beat = 0
        while time.monotonic() < until:
            # The score wanders a little between 91 and 93: a healthy station.
            file.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ},{91 + beat % 3}\n")
            file.flush()
            beat += 1
            time.sleep(1)


if __name__ == "__main__":
    main()

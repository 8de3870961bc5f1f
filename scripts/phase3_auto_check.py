"""Whether something waits for me: `calyx inbox --exit-code` under the station's name.

    python scripts/phase3_auto_check.py [--as PRINCIPAL] [--json] [--home DIR]

Ends with 0 when nothing waits, with 1 when something does, and as `calyx` does when it cannot tell.
"""

from __future__ import annotations

import argparse
import sys

from executor.main import main

parser = argparse.ArgumentParser(description="Say what waits for me, and end with 1 when something does: calyx inbox.")
parser.add_argument("--as", metavar="PRINCIPAL", help="who you are")
parser.add_argument("--home", help="the directory of the ledger; else CALYX_HOME")
parser.add_argument("--json", action="store_true", help="print one JSON value instead of text")

WAITING = 6

if __name__ == "__main__":
    given = vars(parser.parse_args())
    values = [f"--{name}={given[name]}" for name in ("as", "home") if given[name] is not None]
    sys.argv[1:] = ["inbox", "--exit-code", *values, *(["--json"] if given["json"] else [])]
    try:
        main()
    except SystemExit as end:
        sys.exit(1 if end.code == WAITING else end.code)

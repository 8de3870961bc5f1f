"""The two-key rule for one lease, step by step: `calyx check` under the station's name.

    python scripts/cp14_two_key_verifier.py --lease LEASE-20260105-090000 [--json] [--home DIR]

Ends with 0 when the lease may be claimed now, with 1 when a step fails.
"""

from __future__ import annotations

import argparse
import sys

from executor.main import main

parser = argparse.ArgumentParser(description="Go through the two-key rule for a lease: calyx check.")
parser.add_argument("--lease", required=True, help="its id, such as LEASE-20260105-090000")
parser.add_argument("--home", help="the directory of the ledger; else CALYX_HOME")
parser.add_argument("--json", action="store_true", help="print one JSON value instead of text")

if __name__ == "__main__":
    given = parser.parse_args()
    home = [f"--home={given.home}"] if given.home is not None else []
    sys.argv[1:] = ["check", *home, *(["--json"] if given.json else []), "--", given.lease]
    main()

"""The two-key rule for one lease, step by step: `calyx check` under the station's name.

    python scripts/cp14_two_key_verifier.py --lease LEASE-20260105-090000 [--json] [--home DIR]

Ends with 0 when the lease may be claimed now, with 1 when a step fails.
"""

from __future__ import annotations

import argparse
import sys

from executor.main import main

parser = argparse.ArgumentParser(
    description="Go through the two-key rule for a lease: calyx check.",
    epilog="Other options, such as --json and --home, are those of calyx check.",
    allow_abbrev=False,
)
parser.add_argument("--lease", required=True, help="its id, such as LEASE-20260105-090000")

if __name__ == "__main__":
    given, options = parser.parse_known_args()
    sys.argv[1:] = ["check", *options, "--", given.lease]
    main()

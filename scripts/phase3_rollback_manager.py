"""Take a deployment back: `calyx rollback` under the station's name.

    python scripts/phase3_rollback_manager.py --lease L --rollback             calyx rollback L
    python scripts/phase3_rollback_manager.py --lease L --rollback --revert    calyx rollback L --revert

Every other option goes to that command: `--reason`, `--key`, `--as`, `--home`. It ends with 0 once the order is in the
ledger; `calyx watch L` then ends with 3 when it was rolled back, and with 4 when the rollback failed.
"""

from __future__ import annotations

import argparse
import sys

from executor.main import main

parser = argparse.ArgumentParser(
    description="Take a deployment back: calyx rollback.",
    epilog="Other options, such as --revert, --reason, --key, --as and --home, are those of calyx rollback.",
    allow_abbrev=False,
)
parser.add_argument("--lease", required=True, help="its id, such as LEASE-20260105-090000")
parser.add_argument("--rollback", action="store_true", required=True, help="say that this is meant")

if __name__ == "__main__":
    given, options = parser.parse_known_args()
    sys.argv[1:] = ["rollback", *options, "--", given.lease]
    main()

"""A person's part in phase 3, under the station's names; each is one command of `calyx`.

    python scripts/phase3_human_cli.py sign-lease --lease L           calyx approve L
    python scripts/phase3_human_cli.py pause-rollout --lease L        calyx pause L
    python scripts/phase3_human_cli.py force-rollback --lease L       calyx rollback L
    python scripts/phase3_human_cli.py approve-next-tier --lease L    calyx promote L
    python scripts/phase3_human_cli.py list-leases                    calyx lease list

Every other option goes to that command: `--reason`, `--key`, `--as`, `--yes`, `--json`, `--home`.
"""

from __future__ import annotations

import argparse
import sys

from executor.main import main

COMMANDS = {
    "sign-lease": ["approve"],
    "pause-rollout": ["pause"],
    "force-rollback": ["rollback"],
    "approve-next-tier": ["promote"],
    "list-leases": ["lease", "list"],
}

parser = argparse.ArgumentParser(
    description="Approve, pause, roll back, promote and list: calyx for a person.", allow_abbrev=False
)
words = parser.add_subparsers(dest="word", required=True, metavar="COMMAND")
for name, command in COMMANDS.items():
    told = f"calyx {' '.join(command)}"
    word = words.add_parser(name, help=told, epilog=f"Other options are those of {told}.", allow_abbrev=False)
    if name != "list-leases":
        word.add_argument("--lease", required=True, help="its id, such as LEASE-20260105-090000")

if __name__ == "__main__":
    given, options = parser.parse_known_args()
    lease = ["--", given.lease] if "lease" in given else []
    sys.argv[1:] = [*COMMANDS[given.word], *options, *lease]
    main()

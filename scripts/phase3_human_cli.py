"""A person's part in phase 3, under the station's names; each is one command of `calyx`.

    python scripts/phase3_human_cli.py sign-lease --lease L           calyx approve L
    python scripts/phase3_human_cli.py pause-rollout --lease L        calyx pause L
    python scripts/phase3_human_cli.py force-rollback --lease L       calyx rollback L
    python scripts/phase3_human_cli.py approve-next-tier --lease L    calyx promote L
    python scripts/phase3_human_cli.py list-leases                    calyx lease list

`--reason`, and who you are and with which key (`--key`, `--as`, `--yes`, `--home`), are passed on to it.
"""

from __future__ import annotations

import argparse
import sys

from executor.main import main

COMMANDS = {
    "sign-lease": ("approve", "lease", "yes", "key", "as", "home"),
    "pause-rollout": ("pause", "lease", "reason", "key", "as", "home"),
    "force-rollback": ("rollback", "lease", "reason", "key", "as", "home"),
    "approve-next-tier": ("promote", "lease", "reason", "yes", "key", "as", "home"),
    "list-leases": ("lease list", "json", "home"),
}
HELP = {
    "reason": "why; it is signed and public",
    "key": "your private key file",
    "as": "who you are: a principal",
    "home": "the directory of the ledger; else CALYX_HOME",
    "yes": "sign without asking again",
    "json": "print one JSON value instead of text",
}

parser = argparse.ArgumentParser(description="Approve, pause, roll back, promote and list: calyx for a person.")
words = parser.add_subparsers(dest="word", required=True, metavar="COMMAND")
for name, (command, *options) in COMMANDS.items():
    word = words.add_parser(name, help=f"calyx {command}")
    for option in options:
        if option == "lease":
            word.add_argument("--lease", required=True, help="its id, such as LEASE-20260105-090000")
        elif option in {"yes", "json"}:
            word.add_argument(f"--{option}", action="store_true", help=HELP[option])
        else:
            word.add_argument(f"--{option}", help=HELP[option])

if __name__ == "__main__":
    given = vars(parser.parse_args())
    command, *options = COMMANDS[given["word"]]
    flags = [f"--{name}" for name in options if given[name] is True]
    values = [f"--{name}={given[name]}" for name in options if name != "lease" and isinstance(given[name], str)]
    sys.argv[1:] = [*command.split(), *flags, *values, *(["--", given["lease"]] if "lease" in options else [])]
    main()

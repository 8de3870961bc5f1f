"""A rollout in tiers, under the station's name; each order is one command of `calyx`.

    python scripts/phase3_canary_orchestrator.py --lease L --intent I --start         calyx start L
    python scripts/phase3_canary_orchestrator.py --lease L --intent I --promote 25    calyx promote L --to 25
    python scripts/phase3_canary_orchestrator.py --lease L --intent I --rollback      calyx rollback L

`--intent` may be left out; when it is given, nothing is signed unless the lease is of that intent. Every other option
goes to the command: `--reason`, `--key`, `--as`, `--home`; `--yes` where it asks, which `--rollback` does not; and with
that `--revert`. The tiers themselves are the executor's: it deploys, watches and takes back by itself.
"""

from __future__ import annotations

import argparse
import sys

from executor.commands.common import check_begun, find_lease, opened
from executor.commands.terminal import show_error
from executor.main import main
from keys.errors import CalyxError, Refused
from keys.values import fold_id

parser = argparse.ArgumentParser(
    description="Start a rollout, send it on to a tier, or take it back: calyx start, promote and rollback.",
    epilog="Other options, such as --reason, --key, --as and --home, are those of the command.",
    allow_abbrev=False,
)
parser.add_argument("--lease", required=True, help="its id, such as LEASE-20260105-090000")
parser.add_argument("--intent", help="the lease's intent, such as INT-20260105-001; sign nothing if it has another one")
parser.add_argument("--home", help="the directory of the ledger, or ssh://HOST/DIR; else CALYX_HOME")
order = parser.add_mutually_exclusive_group(required=True)
order.add_argument("--start", action="store_true", help="calyx start")
order.add_argument(
    "--promote", metavar="PERCENT", help="calyx promote: go on to this tier, if it is the one that follows"
)
order.add_argument("--rollback", action="store_true", help="calyx rollback")


def check_intent(home: str | None, lease: str, intent: str) -> None:
    """Prove that a lease is of an intent. Raises: CalyxError."""
    with opened(home) as place:
        found = find_lease(check_begun(place.open_replay().sync()), lease).lease
    if fold_id(found.intent) != fold_id(intent):
        raise Refused("wrong_intent", f"{found.id} is of the intent {found.intent}, not of {intent}")


if __name__ == "__main__":
    given, options = parser.parse_known_args()
    if given.intent is not None:
        try:
            check_intent(given.home, given.lease, given.intent)
        except CalyxError as error:
            show_error(error, as_json="--json" in options)
            sys.exit(error.exit_code)
    command = ["promote", "--to", given.promote] if given.promote else ["start" if given.start else "rollback"]
    place = [] if given.home is None else ["--home", given.home]
    sys.argv[1:] = [*command, *options, *place, "--", given.lease]
    main()

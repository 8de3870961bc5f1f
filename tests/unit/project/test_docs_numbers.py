"""Numbers that a page promises are those of the code. The limits on input have a table and a test of their own."""

from __future__ import annotations

import pytest
from documents import CHECKOUT

from executor.commands.notify import GRACE_S
from executor.commands.orders import EXPIRES_S, PREPARED_EXPIRES_S
from executor.homes.reserve import SIZE
from executor.notify.addresses import MAX_ADDRESSES, MAX_CHANNELS
from executor.notify.outbox import MAX_PENDING
from executor.notify.post import SEND_S
from executor.notify.run import FIRST_RETRY_S, LAST_RETRY_S, MAX_AGE_S, MAX_TRIES
from executor.proposals.governance_check import EXPIRY_WARNING_S
from executor.rollout.claim import PREFLIGHTS
from executor.svf.lines import MAX_LINE
from executor.svf.preview import MAX_PREVIEW
from executor.trees.reverse import MAX_CONTENT
from keys.agent_socket import LIST_S, SIGN_S
from ledger.exports.export import MAX_WAITING
from ledger.memory import MAX_RECENT
from ledger.recent import SLOT_SIZE
from policies.law.evidence import ALPHA
from policies.law.position import MAX_LAG, MAX_SKEW_S
from policies.registrar import MAX_AHEAD_S, MAX_BEHIND_S

DAY, MIB = 86_400, 1024**2
SPANS = {600: "10 minutes", 900: "a quarter of an hour", 3_600: "an hour", DAY: "a day"}
COUNTS = {4: "four"}

PROMISES = [
    ("SECURITY", f"After {MAX_RECENT:,} entries at the latest"),
    ("SECURITY", f"by no more than {MAX_RECENT:,} entries"),
    ("SECURITY", f"slots of {SLOT_SIZE} bytes"),
    ("SECURITY", f"{LIST_S:.0f} seconds to list its keys and {SIGN_S:.0f} to sign"),
    ("NOTIFICATIONS", f"tried again after {FIRST_RETRY_S} seconds"),
    ("NOTIFICATIONS", f"each time up to {SPANS[LAST_RETRY_S]}"),
    ("NOTIFICATIONS", f"{MAX_TRIES} times, or for {SPANS[MAX_AGE_S]}"),
    ("NOTIFICATIONS", f"At most {MAX_PENDING:,} deliveries wait"),
    ("NOTIFICATIONS", f"ends after {SEND_S} seconds"),
    ("NOTIFICATIONS", f"for up to {GRACE_S:.0f} seconds"),
    ("NOTIFICATIONS", f"At most {MAX_CHANNELS} channels, of {MAX_ADDRESSES} addresses each"),
    ("APPROVING", f"`--valid-for` ({SPANS[EXPIRES_S]}; prepared, {SPANS[PREPARED_EXPIRES_S]})"),
    ("GOVERNING", f"warns {EXPIRY_WARNING_S // DAY} days before"),
    ("GATES", f"at most one of {1 / ALPHA:.0f} tiers"),
    ("SVF", f"at most {MAX_LINE:,} bytes"),
    ("SVF", f"at most {MAX_PREVIEW} characters"),
    ("RUNNING", f"at most {MAX_CONTENT // MIB} MiB, and up to {COUNTS[PREFLIGHTS]} leases"),
    ("ARCHITECTURE", f"| `reserve` | {SIZE // MIB} MiB"),
    ("FORMAT", f"`made_at <= time + {MAX_SKEW_S} s`"),
    ("FORMAT", f"`time <= made_at + {MAX_SKEW_S} s`"),
    ("FORMAT", f"`seq - head.size <= {MAX_LAG}`"),
    ("FORMAT", f"over {MAX_BEHIND_S} s behind that time or over {MAX_AHEAD_S // DAY} days ahead"),
    ("FORMAT", f"at most {MAX_WAITING:,}, one a line"),
]


@pytest.mark.parametrize(("page", "promise"), PROMISES, ids=[f"{page}: {promise}" for page, promise in PROMISES])
def test_number_of_a_page_is_that_of_the_code(page: str, promise: str) -> None:
    text = " ".join((CHECKOUT / "docs" / f"{page}.md").read_text(encoding="utf-8").split())
    assert promise in text

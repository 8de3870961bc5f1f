"""Forgeries that break what every entry keeps: place, time, key and role; and those of genesis and its trust root."""

from __future__ import annotations

from typing import Any

from forging import KEYS, LOG_KEY, TOKEN, Forge, after, digest_of, key_line, person, policy, trust
from reject_registry import add, reject

from keys.openssh import format_public
from keys.openssh_public import OpenSshKey, plain_key
from keys.values import ZERO_HASH
from ledger.envelope import Envelope

MESSAGE: dict[str, Any] = {"type": "question", "to": None, "reply_to": None, "text": "a test"}

# Every entry.


@reject("nothing", "misplaced_genesis")
def first_entry_is_no_genesis(f: Forge) -> None:
    """The first entry is a message."""
    f.forge("ada", "message", MESSAGE, ledger=digest_of(0), head={"size": 1, "hash": digest_of(0)})


@reject("fleet", "misplaced_genesis")
def second_genesis(f: Forge) -> None:
    """A second genesis, later in the ledger."""
    f.forge("ada", "genesis", f.genesis_fields(), ledger=ZERO_HASH, head={"size": 0, "hash": ZERO_HASH})


@reject("fleet", "repeated")
def statement_said_twice(f: Forge) -> None:
    """The same signed statement is two entries."""
    f.force(f.put(f.sign("ada", "message", f.body("message", {**f.common("ada"), **MESSAGE}))).envelope)


@reject("fleet", "wrong_ledger")
def statement_of_another_ledger(f: Forge) -> None:
    """It names another ledger."""
    f.forge("ada", "message", MESSAGE, ledger=digest_of(0))


@reject("fleet", "head_contradicted")
def head_of_another_history(f: Forge) -> None:
    """Its head has the right size and another hash."""
    f.forge("ada", "message", MESSAGE, head={"size": 2, "hash": digest_of(0)})


@reject("fleet", "head_contradicted")
def head_of_the_future(f: Forge) -> None:
    """Its head has more entries than stand before it."""
    f.forge("ada", "message", MESSAGE, head={"size": 9, "hash": f.records[-1].leaf})


@reject("fleet", "clock_suspect")
def made_in_the_future(f: Forge) -> None:
    """It was made 121 s after its record."""
    f.forge("ada", "message", MESSAGE, made_at=after(f.now, 121))


@reject("fleet", "stale_statement")
def machine_made_it_long_ago(f: Forge) -> None:
    """A machine made it 121 s before its record."""
    f.now += 121
    f.forge("cbo", "message", MESSAGE, made_at=after(f.now, -121))


@reject("fleet", "clock_suspect")
def machine_made_it_before_its_head(f: Forge) -> None:
    """A machine's statement is a second older than the last record of its head."""
    f.forge("cbo", "message", MESSAGE, made_at=after(f.now, -1))


@reject("fleet", "unknown_key")
def key_that_nobody_holds(f: Forge) -> None:
    """It is signed with a key that is in no root."""
    f.forge("ada", "message", MESSAGE, key=KEYS["other"])


@reject("fleet", "unknown_key")
def key_of_somebody_else(f: Forge) -> None:
    """It says that it is by ada, and carries and is signed with ben's key."""
    f.forge("ada", "message", MESSAGE, key=KEYS["ben"])


@reject("fleet", "unknown_key")
def signer_that_nobody_knows(f: Forge) -> None:
    """It is by a principal that is in no root."""
    f.forge("ada", "message", MESSAGE, by="nobody")


@reject("fleet", "unknown_key")
def signer_in_another_spelling(f: Forge) -> None:
    """It is by ADA, with ada's key."""
    f.forge("ada", "message", MESSAGE, by="ADA")


@reject("fleet", "unknown_key")
def machine_under_a_key_id_in_its_own_name(f: Forge) -> None:
    """The key id is that of another key of the same kind, the signature is its signer's."""
    good = f.sign("cbo", "message", f.body("message", {**f.common("cbo"), **MESSAGE}))
    f.force(Envelope(good.body, f.sign("cp14", "message", good.body).keyid, good.sig))


def _role(who: str, kind: str, fields: Any, moment: str, on_it: bool = False, code: str = "role_missing") -> None:
    def doing(f: Forge) -> None:
        f.forge(who, kind, fields(f), f.it if on_it else None)

    wrong = "of another kind" if code == "wrong_kind" else "without the role"
    add(f"{kind} by {who} {wrong}".replace(" ", "_"), f"A {kind} by {who}, {wrong}.", moment, code, doing)


_role("dan", "genesis", lambda f: f.genesis_fields(), "nothing")
_role("tok", "trust", lambda f: f.proposal("trust", trust(expires="2031-01-01T00:00:00Z")), "fleet")
_role("dan", "policy", lambda f: f.proposal("policy", policy(bake_s=60)), "fleet")
_role("dan", "fleet", lambda f: f.proposal("fleet", f.fleet_object()), "fleet")
_role("ada", "intent", lambda f: {"id": "INT-20260105-001", "target": "web", "what": "", "why": ""}, "fleet")
_role(
    "cp18", "review", lambda f: {"role": "sentinel", "verdict": "pass", "summary": "", "findings": None}, "lease", True
)
_role("cbo", "cosignature", lambda f: {"role": "approver", "review": None}, "lease", True)
_role("cp20", "objection", lambda f: {"verb": "withdraw", "reason": ""}, "lease", True)
_role("cbo", "command", lambda f: f.command_fields(f.it, "pause"), "claimed", True)
_role("cp14", "term", lambda f: {"epoch": 2, "reason": ""}, "fleet", code="wrong_kind")
_role("ada", "claim", lambda f: f.claim_fields(f.it), "approved", True, code="wrong_kind")
_role("cp18", "event", lambda f: {**f.event_fields("cp20", "STARTED")}, "claimed", True, code="wrong_kind")


@reject("approved", "role_missing")
def lease_by_somebody_without_the_role(f: Forge) -> None:
    """A lease by an approver who proposes nothing; the intent is lawful."""
    f.intent("INT-20260105-002")
    f.forge("ada", "lease", f.lease_fields(2))


@reject("lease", "role_missing")
def denial_by_an_agent(f: Forge) -> None:
    """An agent denies a lease; it may only withdraw."""
    f.forge("cp14", "objection", {"verb": "deny", "reason": ""}, f.it)


# Subjects and heads.


@reject("lease", "unknown_subject")
def subject_that_does_not_exist(f: Forge) -> None:
    """A cosignature on a digest that is no entry's."""
    f.forge("ada", "cosignature", {"role": "approver", "review": None}, (f.it[0], digest_of(0)))


@reject("lease", "unknown_subject")
def subject_under_another_name(f: Forge) -> None:
    """A cosignature on the lease's digest under another lease's id."""
    f.forge("ada", "cosignature", {"role": "approver", "review": None}, ("LEASE-20260105-000009", f.it[1]))


@reject("fleet", "unknown_subject")
def review_of_a_proposal(f: Forge) -> None:
    """An agent reviews a policy's proposal."""
    it = f.say("ada", "policy", f.proposal("policy", policy(bake_s=60)))
    f.forge("cp14", "review", {"role": "sentinel", "verdict": "pass", "summary": "", "findings": None}, it)


@reject("lease", "head_too_old")
def cosignature_on_a_lease_not_seen(f: Forge) -> None:
    """The signer's head ends right before the lease."""
    seq = f.state.leases[f.it[1]].seq
    head = {"size": seq, "hash": f.records[seq - 1].leaf}
    f.forge("ada", "cosignature", {"role": "approver", "review": None}, f.it, head=head)


@reject("term", "head_moved")
def term_on_an_old_head(f: Forge) -> None:
    """A takeover whose head misses the last entry."""
    head = {"size": f.head.size - 1, "hash": f.records[-2].leaf}
    f.forge("cp20b", "term", {"epoch": 2, "reason": ""}, head=head)


@reject("approved", "head_moved")
def claim_on_an_old_head(f: Forge) -> None:
    """A claim whose head misses the last entry."""
    head = {"size": f.head.size - 1, "hash": f.records[-2].leaf}
    f.forge("cp20", "claim", f.claim_fields(f.it), f.it, head=head)


# Genesis.


def _genesis(name: str, what: str, code: str, change: Any) -> None:
    def doing(f: Forge) -> None:
        fields = {**f.genesis_fields(trust=trust("ada", "ben", "cbo")), **change()}
        f.forge("ada", "genesis", fields)

    add(f"genesis_{name}", what, "nothing", code, doing)


def _continues(ledger: str, size: int, last: str) -> Any:
    return lambda: {"continues": {"ledger": ledger, "head": {"size": size, "hash": last}}}


_genesis(
    "named_otherwise", "The origin is not the name of the log's key.", "bad_genesis", lambda: {"origin": "x-00000000"}
)
_genesis(
    "continues_nothing",
    "It continues a ledger without an entry.",
    "bad_genesis",
    _continues(digest_of(1), 0, ZERO_HASH),
)
_genesis(
    "continues_nothing_with_a_hash",
    "It continues a ledger without an entry, whose last one has a hash.",
    "bad_genesis",
    _continues(digest_of(1), 0, digest_of(2)),
)
_genesis(
    "continues_another",
    "The one entry of what it continues is not that ledger's first.",
    "bad_genesis",
    _continues(digest_of(1), 1, digest_of(2)),
)
_genesis(
    "continues_in_a_ring",
    "The last of two entries is the first one again.",
    "bad_genesis",
    _continues(digest_of(1), 2, digest_of(1)),
)
_genesis("continues_zeros", "It continues a ledger of zeros.", "bad_genesis", _continues(ZERO_HASH, 2, digest_of(1)))
_genesis(
    "log_key_cut", "The log's key lacks its last character.", "bad_format", lambda: {"log_key": str(LOG_KEY.vkey)[:-1]}
)
_genesis(
    "log_key_id",
    "The key id of the log's key is another key's.",
    "bad_format",
    lambda: {"log_key": str(LOG_KEY.vkey).replace(LOG_KEY.vkey.key_id.hex(), "00000000")},
)
_genesis(
    "log_key_of_another_type",
    "The log's key is of type 2.",
    "bad_format",
    lambda: {"log_key": str(LOG_KEY.vkey).replace("+A", "+B")},
)


@reject("nothing", "bad_format")
def genesis_with_an_origin_without_its_suffix(f: Forge) -> None:
    """The origin does not end in a dash and 8 hex digits."""
    key = LOG_KEY.vkey
    bare = type(key)("station.example/reject", key.public)
    f.forge("ada", "genesis", f.genesis_fields(origin=bare.name, log_key=str(bare), trust=trust("ada", "ben")))


# Trust roots, at genesis and as proposals.


def _root(name: str, what: str, change: Any) -> None:
    def doing(f: Forge) -> None:
        f.forge("ada", "genesis", f.genesis_fields(trust=change()))

    add(f"root_{name}", what, "nothing", "bad_trust_root", doing)


def _with_key(name: str, *lines: str, verification: bool = False, **changes: Any) -> dict[str, Any]:
    return person(name, keys=[{"key": line, "user_verification": verification} for line in lines], **changes)


def _principals(*people: dict[str, Any], **changes: Any) -> Any:
    return lambda: trust("ada", "ben", principals=[person("ada"), person("ben"), *people], **changes)


_root(
    "id_twice",
    "Two principals are called cbo and CBO.",
    _principals(person("cbo"), _with_key("cp14", key_line("cp14"), id="CBO")),
)
_root("machine_governs", "An overseer is governor.", _principals(person("cbo", roles=["governor"])))
_root("machine_operates", "An overseer is operator.", _principals(person("cbo", roles=["operator"])))
_root("machine_approves", "An agent is approver.", _principals(person("cp14", roles=["approver"])))
_root("human_sentinel", "A human is sentinel.", _principals(person("dan", roles=["sentinel"])))
_root("overseer_validates", "An overseer is validator.", _principals(person("cbo", roles=["validator"])))
_root("key_twice", "Two principals hold the same key.", _principals(_with_key("cbo", key_line("ben"))))
_root(
    "key_twice_of_one",
    "One principal holds the same key twice.",
    _principals(_with_key("cbo", key_line("cbo"), key_line("cbo"))),
)
_root(
    "log_key_held",
    "A principal holds the log's key.",
    _principals(_with_key("cbo", format_public(plain_key(LOG_KEY.vkey.public)))),
)
_root("hardware_machine", "A machine holds a hardware key.", _principals(_with_key("cbo", key_line("tok"))))
_root(
    "plain_key_verifies",
    "A plain key is asked to verify its user.",
    _principals(_with_key("dan", key_line("dan"), verification=True)),
)
_root(
    "compromised_twice",
    "A key stands twice among the compromised ones.",
    _principals(compromised=[{"key": key_line("other"), "position": 0}] * 2),
)
_root(
    "compromised_and_held",
    "A compromised key is held.",
    _principals(compromised=[{"key": key_line("ben"), "position": 0}]),
)
_root(
    "too_few_governors",
    "Three governors are needed, and there are two.",
    _principals(thresholds={"governors": 3, "operators": 1}),
)
_root(
    "too_few_operators",
    "Three operators are needed, and there are two.",
    _principals(thresholds={"governors": 1, "operators": 3}),
)
_root(
    "one_custodian",
    "Three governors are needed, and two of three have one custodian.",
    _principals(person("eve"), thresholds={"governors": 3, "operators": 2}),
)


@reject("nothing", "bad_trust_root")
def root_same_key_under_two_types(f: Forge) -> None:
    """A raw key stands as a plain key and as a hardware key."""
    token = OpenSshKey(TOKEN.blob)
    plain = format_public(plain_key(token.raw))
    f.forge("ada", "genesis", f.genesis_fields(trust=_principals(person("tok"), _with_key("dan", plain))()))

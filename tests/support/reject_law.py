"""Forgeries of what is said about leases and governance, one rule of the law each."""

from __future__ import annotations

from random import Random
from typing import Any

from forging import CAST, KEYS, LOG_KEY, TOKEN, Forge, Subject, after, digest_of, key_line, person, policy, trust
from reject_registry import add, reject
from reject_stories import fleet_body

from keys.canonical import format_json
from keys.openssh import format_public
from keys.openssh_public import OpenSshKey, plain_key
from keys.values import ZERO_HASH
from ledger.envelope import Envelope
from ledger.log_key import LogKey
from policies.fleet import Fleet

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
    lambda: {"log_key": str(LOG_KEY.vkey).replace("+", "+0", 1)[:-1]},
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


def _next_root(name: str, what: str, change: Any) -> None:
    def doing(f: Forge) -> None:
        f.forge("ada", "trust", f.proposal("trust", change(f)))

    add(f"next_root_{name}", what, "fleet", "bad_trust_root", doing)


def _swapped(**replaced: dict[str, Any]) -> Any:
    return lambda _: trust(principals=[replaced.get(name, person(name)) for name in CAST])


_next_root(
    "key_reassigned",
    "ben's key goes to dan.",
    _swapped(ben=_with_key("ben", key_line("spare")), dan=_with_key("dan", key_line("ben"))),
)
_next_root("kind_changed", "cbo becomes an agent.", _swapped(cbo=person("cbo", kind="agent")))
_next_root(
    "kind_changed_in_other_case",
    "CBO becomes an agent; cbo was an overseer.",
    _swapped(cbo=person("cbo", kind="agent", id="CBO")),
)
_next_root(
    "compromised_later",
    "A compromise from an entry that is not there yet.",
    lambda f: trust(compromised=[{"key": key_line("other"), "position": f.head.size + 1}]),
)
_next_root("unlawful_by_itself", "A machine is operator.", _swapped(cbo=person("cbo", roles=["operator"])))


def _rotated(position: int = 2) -> dict[str, Any]:
    """A root in which ben has a new key and the old one is compromised."""
    people = [_with_key("ben", key_line("spare")) if name == "ben" else person(name) for name in CAST]
    return trust(principals=people, compromised=[{"key": key_line("ben"), "position": position}])


def _rotate(f: Forge, position: int = 2) -> None:
    f.enact("trust", _rotated(position), ("ada", "eve"))


@reject("fleet", "bad_trust_root")
def next_root_forgets_a_compromise(f: Forge) -> None:
    """A root drops what the one before listed as compromised."""
    _rotate(f)
    people = [_with_key("ben", key_line("spare")) if name == "ben" else person(name) for name in CAST]
    f.forge("ada", "trust", f.proposal("trust", trust(principals=people)))


@reject("fleet", "bad_trust_root")
def next_root_moves_a_compromise(f: Forge) -> None:
    """A root moves a compromise to a later entry."""
    _rotate(f)
    f.forge("ada", "trust", f.proposal("trust", _rotated(3)))


@reject("fleet", "bad_trust_root")
def next_root_gives_an_old_key_to_another(f: Forge) -> None:
    """A key of a root that is no longer in force goes to another principal."""
    people = [_with_key("cbo", key_line("spare")) if name == "cbo" else person(name) for name in CAST]
    f.enact("trust", trust(principals=people))
    given = [
        {**each, "keys": [{"key": key_line("cbo"), "user_verification": False}]} if each["id"] == "cp14" else each
        for each in people
    ]
    f.forge("ada", "trust", f.proposal("trust", trust(principals=given)))


# Proposals.


def _proposal(kind: str, content: Any) -> None:
    def base(f: Forge) -> None:
        f.forge("ada", kind, f.proposal(kind, content(f), base=digest_of(0)))

    def late(f: Forge) -> None:
        f.forge("ada", kind, f.proposal(kind, content(f), approve_by=after(f.now, -1)))

    def decided(f: Forge) -> None:
        f.now += 1
        it = f.enact(kind, content(f))
        f.forge("eve", "cosignature", {"role": role, "review": None}, it)

    def overtaken(f: Forge) -> None:
        f.now += 1
        void = f.say("ada", kind, f.proposal(kind, content(f), reason="another"))
        f.enact(kind, content(f))
        f.forge("ada", "cosignature", {"role": role, "review": None}, void)

    def tardy(f: Forge) -> None:
        it = f.say("ada", kind, f.proposal(kind, content(f)))
        f.now += 3601
        f.forge("ben", "cosignature", {"role": role, "review": None}, it)

    def twice(f: Forge) -> None:
        it = f.say("ada", kind, f.proposal(kind, content(f)))
        f.vote("ada", it, role)
        f.now += 1
        f.forge("ada", "cosignature", {"role": role, "review": None}, it)

    def wrong(f: Forge) -> None:
        it = f.say("ada", kind, f.proposal(kind, content(f)))
        other = "governor" if role == "operator" else "operator"
        f.forge("ada", "cosignature", {"role": other, "review": None}, it)

    def reviewed(f: Forge) -> None:
        it = f.say("ada", kind, f.proposal(kind, content(f)))
        f.forge("ada", "cosignature", {"role": role, "review": digest_of(0)}, it)

    def stranger(f: Forge) -> None:
        it = f.say("ada", kind, f.proposal(kind, content(f)))
        f.forge("tok", "cosignature", {"role": role, "review": None}, it)

    def withdrawn(f: Forge) -> None:
        f.now += 1
        it = f.enact(kind, content(f))
        f.forge("ada", "objection", {"verb": "withdraw", "reason": ""}, it)

    def denied(f: Forge) -> None:
        it = f.say("ada", kind, f.proposal(kind, content(f)))
        f.forge("ada", "objection", {"verb": "deny", "reason": ""}, it)

    def objected(f: Forge) -> None:
        it = f.say("ada", kind, f.proposal(kind, content(f)))
        f.forge("tok", "objection", {"verb": "withdraw", "reason": ""}, it)

    role = "operator" if kind == "fleet" else "governor"
    for name, what, code, doing in (
        ("on_another_base", "is based on what is not in force", "stale_base", base),
        ("made_too_late", "is made after its own time for approval", "approval_expired", late),
        ("cosigned_when_in_force", "is cosigned once it is in force", "already_in_force", decided),
        ("cosigned_when_void", "is cosigned after another came into force", "stale_base", overtaken),
        ("cosigned_too_late", "is cosigned after its time for approval", "approval_expired", tardy),
        ("cosigned_twice", "is cosigned twice with one key", "already_cosigned", twice),
        ("cosigned_in_another_role", "is cosigned in another role", "wrong_role", wrong),
        ("cosigned_with_a_review", "is cosigned with a review", "wrong_role", reviewed),
        ("cosigned_by_a_stranger", "is cosigned by somebody without the role", "role_missing", stranger),
        ("withdrawn_when_in_force", "is withdrawn once it is in force", "already_in_force", withdrawn),
        ("denied", "is denied", "wrong_subject", denied),
        ("withdrawn_by_a_stranger", "is withdrawn by somebody without the role", "role_missing", objected),
    ):
        add(f"{kind}_{name}", f"A {kind} proposal {what}.", "fleet", code, doing)


_proposal("trust", lambda f: trust(expires="2031-01-01T00:00:00Z"))
_proposal("policy", lambda f: policy(bake_s=60))
_proposal("fleet", lambda f: f.fleet_object(fleet_body(5)))


def _uses(name: str, what: str, propose: Any) -> None:
    """A quorum that is not one: what it should bring into force is used at once."""

    def doing(f: Forge) -> None:
        it: Subject = propose(f)
        f.forge("cbo", "lease", {**f.lease_fields(1), "policy": it[1]})

    def moment(f: Forge) -> None:
        f.intent("INT-20260105-001")
        doing(f)

    add(f"quorum_{name}", what, "fleet", "stale_policy", moment)


def _one_vote(f: Forge) -> Subject:
    it = f.say("ada", "policy", f.proposal("policy", policy(bake_s=60)))
    f.vote("ada", it, "governor")
    return it


def _same_custodian(f: Forge) -> Subject:
    it = f.say("ada", "policy", f.proposal("policy", policy(bake_s=60)))
    f.vote("ben", it, "governor")
    f.vote("eve", it, "governor")
    return it


def _one_took_it_back(f: Forge) -> Subject:
    it = _one_vote(f)
    f.say("ada", "objection", {"verb": "withdraw", "reason": ""}, it)
    f.vote("ben", it, "governor")
    return it


def _withdrawn_beforehand(f: Forge) -> Subject:
    it = _one_vote(f)
    head = f.common("ben")["head"]
    f.say("ben", "objection", {"verb": "withdraw", "reason": ""}, it)
    f.say("ben", "cosignature", {"role": "governor", "review": None}, it, head=head)
    return it


def _compromised_vote(f: Forge) -> Subject:
    it = f.say("ada", "policy", f.proposal("policy", policy(bake_s=60)))
    f.vote("ben", it, "governor")
    _rotate(f, f.head.size - 1)
    f.vote("ada", it, "governor")
    return it


_uses("of_one", "A lease on a policy that one governor of two cosigned.", _one_vote)
_uses("of_one_custodian", "A lease on a policy whose two governors have one custodian.", _same_custodian)
_uses("of_a_withdrawn_vote", "A lease on a policy of which one of two cosignatures was withdrawn.", _one_took_it_back)
_uses(
    "of_a_vote_withdrawn_before",
    "A lease on a policy whose second cosignature was withdrawn before it came in.",
    _withdrawn_beforehand,
)
_uses(
    "of_a_compromised_vote",
    "A lease on a policy of which one of two cosignatures is by a compromised key.",
    _compromised_vote,
)


@reject("fleet", "stale_base")
def trust_of_the_old_quorum_alone(f: Forge) -> None:
    """A root on one that the governors in force cosigned, and its own governors did not."""
    people = [person(name, roles=["approver"]) if name == "ada" else person(name) for name in CAST]
    people = [{**each, "custodian": "eve"} if each["id"] == "eve" else each for each in people]
    it = f.say("ada", "trust", f.proposal("trust", trust(principals=people)))
    f.vote("ada", it, "governor")
    f.vote("ben", it, "governor")
    f.forge("ada", "trust", f.proposal("trust", trust(), base=it[1]))


# The fleet's body.


def _body(name: str, what: str, code: str, change: Any) -> None:
    def doing(f: Forge) -> None:
        body = fleet_body(2)
        complete = _complete(body)
        change(complete)
        ref = f.objects.put(format_json(complete))
        f.forge("ada", "fleet", f.proposal("fleet", ref.to_json()))

    add(f"fleet_body_{name}", what, "genesis", code, doing)


def _complete(body: dict[str, Any]) -> Any:
    return Fleet.from_json(body).to_json()


def _instance(body: Any, number: int = 0) -> Any:
    return body["targets"]["web"]["instances"][number]


def _set(number: int, **changes: Any) -> Any:
    return lambda body: _instance(body, number).update(changes)


def _second_target(body: Any) -> None:
    body["targets"]["WEB"] = {**body["targets"]["web"], "instances": [{**_instance(body), "root": "/elsewhere"}]}


HOST = format_public(KEYS["other"].public)
_body("names_twice", "Two instances are called web-01 and WEB-01.", "bad_format", _set(1, name="WEB-01"))
_body("one_place", "Two instances are in one place.", "bad_format", _set(1, root="/srv/web-01"))
_body("targets_twice", "Two targets are called web and WEB.", "bad_format", _second_target)
_body("host_key_of_local", "An instance on this machine has a host key.", "bad_format", _set(0, host_key=HOST))
_body("no_host_key", "An instance elsewhere has no host key.", "bad_format", _set(0, address="ops@web.example"))
_body(
    "restart_with_argv",
    "A restart has a command line.",
    "bad_format",
    _set(0, reload={"kind": "restart", "argv": ["x"], "timeout_s": 5}),
)
_body(
    "command_without_argv",
    "A reload by command has no command line.",
    "bad_format",
    _set(0, reload={"kind": "command", "argv": [], "timeout_s": 5}),
)
_body(
    "command_with_process",
    "A reload by command has a process.",
    "bad_format",
    _set(
        0,
        reload={"kind": "command", "argv": ["x"], "timeout_s": 5},
        process={"argv": ["x"], "env": {}, "stop_s": 1, "user": None},
    ),
)
_body("shared_twice", "A shared path stands twice.", "bad_format", _set(0, shared=["data", "data"]))
_body("shared_below", "A shared path lies below another.", "bad_format", _set(0, shared=["data", "data-b", "data/a"]))
_body(
    "default_left_out",
    "A field that has a default is left out.",
    "not_canonical",
    lambda body: _instance(body).pop("labels"),
)


@reject("genesis", "not_canonical")
def fleet_body_with_white_space(f: Forge) -> None:
    """The body has a space behind a colon."""
    data = format_json(_complete(fleet_body(2))).replace(b":", b": ", 1)
    f.forge("ada", "fleet", f.proposal("fleet", f.objects.put(data).to_json()))


@reject("genesis", "object_missing")
def fleet_body_missing(f: Forge) -> None:
    """The body is nowhere."""
    f.forge("ada", "fleet", f.proposal("fleet", {"sha256": digest_of(0), "size": 9}))


@reject("genesis", "object_mismatch")
def fleet_body_of_another_size(f: Forge) -> None:
    """The body has another size than its reference says."""
    ref = f.fleet_object()
    f.forge("ada", "fleet", f.proposal("fleet", {**ref, "size": ref["size"] + 1}))


@reject("genesis", "too_large")
def fleet_body_too_large(f: Forge) -> None:
    """The body is said to have a byte more than 64 MiB."""
    f.forge("ada", "fleet", f.proposal("fleet", {"sha256": digest_of(0), "size": 64 * 2**20 + 1}))


def other_log() -> LogKey:
    """A log key that no ledger here names."""
    return LogKey.generate("station.example/reject", Random(8).randbytes)

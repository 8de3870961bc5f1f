"""Ledgers that both verifiers must accept: whatever is just inside a rule, one at its edge and one of each kind."""

from __future__ import annotations

from typing import Any

from forging import KEYS, after, digest_of, json_object, key_line, policy, trust
from reject_claimed import _hardware
from reject_edges import _with_spare
from reject_law import MESSAGE
from reject_stories import STORIES, deploy, fleet_body, pause, restore, sample, verdict
from terms import GATES
from verdicts import agree, of_forge

from keys.canonical import format_json
from keys.values import format_time


def test_both_accept_what_no_story_tells() -> None:
    """An answer, a statement that a person prepared days ago, a failed preflight, orders after a breach, a tree."""
    f = STORIES["main"]().moments["sampled"].fork()
    _, asked = f.say("ben", "message", MESSAGE)
    f.say("cp20", "message", {**MESSAGE, "type": "answer", "reply_to": asked, "to": "ben"})
    days_ago, old_head = format_time(f.now), f.common("ada")["head"]
    verdict(f, f.it, 1, "breach")
    for verb in ("pause", "abort", "rollback"):
        f.command("ada", f.it, verb)
    f.now += 3 * 86_400
    f.say("ada", "message", MESSAGE, made_at=days_ago, head=old_head)
    page = f.objects.put(b"a page")
    deep = ["d" * 255 + "/" * (at < 15) for at in range(16)]
    rows: list[Any] = [["".join(deep[:at]).rstrip("/"), "dir"] for at in range(1, 17)]
    rows += [["static", "dir"], ["static/a", "file", page.sha256, page.size], ["to", "link", "t" * 4095]]
    tree = json_object(f.objects.put(format_json(["calyx-tree-v1", *rows])).to_json())
    change = {"before": "absent", "after": tree["sha256"], "instances": ["web-01"]}
    it = f.lease(2, artifact={"type": "directory", **tree}, changes=[change])
    f.event("cp20", it, "PREFLIGHT_FAILED", code="no_space", instance="web-01", text="")
    agree(of_forge(f))


def test_both_accept_a_deployment_that_pauses_and_goes_on() -> None:
    f = STORIES["main"]().moments["sampled"].fork()
    pause(f, f.it)
    sample(f, f.it, 2)
    f.event("cp20", f.it, "RESUMED", command=None)
    verdict(f, f.it, 2)
    f.event("cp20", f.it, "CANARY_PROMOTED", tier=25, to=100)
    f.event("cp20", f.it, "PAUSED", cause="hand", command=f.command("ada", f.it, "pause")[1], text="")
    f.event("cp20", f.it, "RESUMED", command=f.command("ada", f.it, "resume")[1])
    deploy(f, f.it)
    agree(of_forge(f))


def test_both_accept_an_instance_restored_again_in_another_attempt() -> None:
    f = STORIES["main"]().moments["rolling"].fork()
    first, *left = sorted(f.state.deployments[f.it[1]].intended)
    f.event("cp20", f.it, "INSTANCE_RESTORED", instance=first, tree=digest_of(1), rebuilt=False, warning=None)
    f.event("cp20", f.it, "ROLLBACK_FAILED", instances=left, text="")
    order = f.command("ben", f.it, "rollback")
    f.event("cp20", f.it, "ROLLBACK_STARTED", cause="command", command=order[1])
    restore(f, f.it)
    f.event("cp20", f.it, "ROLLED_BACK")
    agree(of_forge(f))


def test_both_bring_nothing_into_force_by_what_was_withdrawn_beforehand() -> None:
    """Although one who stands would be enough by now."""
    f = STORIES["main"]().moments["genesis"].fork()
    it = f.say("ada", "policy", f.proposal("policy", policy(look=True)))
    f.vote("ada", it, "governor")
    before = f.common("ben")["head"]
    f.say("ben", "objection", {"verb": "withdraw", "reason": ""}, it)
    f.enact("trust", trust(thresholds={"governors": 1, "operators": 2}))
    f.say("ben", "cosignature", {"role": "governor", "review": None}, it, head=before)
    f.enact("policy", policy(look=True), voters=("ada",))
    agree(of_forge(f))


YEAR = 31_622_400
LONG_ID, SHORT_IDS = "a" * 64, [f"i{number:02}" for number in range(64)]


def instance_at_limits(number: int, port: str) -> dict[str, Any]:
    """An instance each of whose members is as long, as large or as small as it may be."""
    return {
        "name": f"{number:02}" + "n" * 62,
        "address": "u" * 32 + "@" + ".".join(["h" * 49 + "-" * 13 + "h", *["l"] * 15]) + port,
        "root": "/" + "r" * 1023,
        "host_key": key_line("ada"),
        "labels": dict.fromkeys(SHORT_IDS[:32], "l" * 256),
        "shared": ["s" * 1024, *SHORT_IDS[:63]],
        "process": {
            "argv": ["w" * 1024, *["w"] * 63],
            "env": {"v" * 128: "\t" + "e" * 4095, **{f"v{each}": "" for each in SHORT_IDS[:62]}, "v": ""},
            "stop_s": YEAR,
            "user": LONG_ID,
        },
        "reload": {"argv": [], "kind": "restart", "timeout_s": YEAR},
        "probe": {"status": 599 if number else 100, "timeout_s": 1, "url": "http://" + "~" * 1017},
        "metrics": {
            "usage": "host",
            "counters": {"errors": "e", "requests": "r" * 1024, "url": "https://h"},
            "prometheus": {"cpu": "c", "errors": None, "memory": None, "requests": None, "url": "http://h"},
        },
    }


def test_both_accept_fleets_and_policies_whose_members_are_at_their_limits() -> None:
    f = STORIES["main"]().moments["genesis"].fork()
    ports = [
        "",
        *(f":{port}" for port in (1, 9999, 10000, 59999, 60000, 64999, 65000, 65499, 65500, 65529, 65530, 65535)),
    ]
    instances = [instance_at_limits(number, port) for number, port in enumerate(ports)]
    tes = {"path": "/t", "tes": "t", "timestamp": "t"}
    target = {"instances": instances, "max_unavailable": 100_000, "tes": tes}
    f.enact("fleet", f.fleet_object({"targets": {"web": target}}))
    numbers = ["-999999999999999.999999999", "0", "0.0", "-0.1", "9.000000000"]
    gate = {"for_s": YEAR, "missing_s": YEAR, "min_samples": 10_000, "min_requests": 1_000_000_000}
    gates = [{**GATES[0], **gate, "name": each, "limit": numbers[at % 5]} for at, each in enumerate(SHORT_IDS[:32])]
    hook = {"argv": ["w" * 1024, *["w"] * 63], "timeout_s": YEAR}
    glass = {"enabled": True, "max_validity_s": YEAR, "review_within_s": YEAR, "user_verification": False}
    largest = {
        "bake_s": 2_592_000,
        "interval_s": 86_400,
        "retention_s": YEAR,
        "tiers": list(range(1, 101)),
        "gates": gates,
        "hooks": {each: {"argv": ["w"], "timeout_s": 0} for each in SHORT_IDS[:63]} | {LONG_ID: hook},
        "notify": dict.fromkeys(SHORT_IDS, SHORT_IDS[:16]),
        "targets": {"web": {"paths": ["p" * 1024]}},
        "break_glass": glass,
        "reviews": ["sentinel", "validator"],
    }
    f.enact("policy", policy(**largest))
    smallest = {"bake_s": 1, "interval_s": 1, "retention_s": 0, "tiers": [100], "gates": GATES[:1], "targets": {}}
    f.enact("policy", policy(**smallest, reviews=[], notify={SHORT_IDS[0]: []}, hooks={}))
    f.say("ada", "message", {**MESSAGE, "text": "\u2014" * 4096})
    f.say("ada", "message", {**MESSAGE, "text": ""})
    f.say("ada", "message", {**MESSAGE, "text": '\x7f\x1f"\\/'})
    agree(of_forge(f))


def test_both_accept_a_lease_whose_members_are_at_their_limits() -> None:
    f = STORIES["main"]().moments["genesis"].fork()
    f.enact("fleet", f.fleet_object(fleet_body(256)))
    f.term()
    changes = [
        {"before": digest_of(2 * number), "after": digest_of(2 * number + 1), "instances": [f"web-{number + 1:02}"]}
        for number in range(128)
    ]
    paths = ["app.py", "p" * 4096, "static/"]
    f.lease(1, changes=changes, paths=sorted(paths), tiers=list(range(1, 101)), interval_s=1, bake_s=0)
    everyone = [f"web-{number:02}" for number in range(1, 257)]
    f.lease(2, changes=[{"before": "absent", "after": digest_of(1), "instances": everyone}])
    agree(of_forge(f))


def test_both_accept_what_happens_in_the_last_second() -> None:
    """Made, approved, claimed and started when it is just in time."""
    f = STORIES["main"]().moments["fleet"].fork()
    f.enact("trust", trust(expires=after(f.now, 240)))
    f.say("ada", "message", MESSAGE, made_at=after(f.now, 120))
    f.now += 120
    f.say("cbo", "message", MESSAGE, made_at=after(f.now, -120))
    f.now += 120
    f.term()
    now = after(f.now, 0)
    it = f.say("ada", "policy", f.proposal("policy", policy(look=True), approve_by=now))
    f.vote("ada", it, "governor")
    f.vote("ben", it, "governor")
    lease = f.lease(1, not_before=now, approve_by=now, execute_by=now, complete_by=now, tiers=[1, 5, 25, 100])
    f.approve(lease)
    f.claim(lease)
    f.event("cp20", lease, "STARTED")
    f.command("ada", lease, "pause", expires_at=now)
    agree(of_forge(f))


def test_both_accept_a_rollback_in_the_last_second_of_retention() -> None:
    f = STORIES["main"]().moments["completed"].fork()
    f.now += 7 * 86_400
    f.command("ben", f.it, "rollback")
    agree(of_forge(f))


def test_both_accept_a_compromise_from_the_very_entry_that_says_so() -> None:
    f = STORIES["main"]().moments["genesis"].fork()
    lost = {"key": key_line("spare"), "position": f.head.size}
    f.enact("trust", trust(compromised=[lost]))
    agree(of_forge(f))


def test_both_let_a_key_of_the_proposed_root_cosign_and_withdraw() -> None:
    f = STORIES["main"]().moments["genesis"].fork()
    it = f.say("ada", "trust", f.proposal("trust", _with_spare()))
    f.say("ada", "cosignature", {"role": "governor", "review": None}, it, key=KEYS["spare"])
    f.say("ada", "objection", {"verb": "withdraw", "reason": ""}, it, key=KEYS["spare"])
    agree(of_forge(f))


def test_both_let_a_proposer_deny() -> None:
    f = STORIES["main"]().moments["lease"].fork()
    f.say("cbo", "objection", {"verb": "deny", "reason": ""}, f.it)
    agree(of_forge(f))


def test_both_let_targets_share_a_place_that_the_lease_leaves_alone() -> None:
    """Another target's live deployment is at the place of an instance of the same target, and not of the lease."""
    f = STORIES["main"]().moments["fleet"].fork()
    body = fleet_body(4)
    f.term()
    first = f.lease(1, changes=[{"before": digest_of(1), "after": digest_of(2), "instances": ["web-01"]}])
    f.approve(first)
    f.claim(first)
    body["targets"]["db"] = body["targets"].pop("web")
    f.enact("policy", policy(targets={"db": {"paths": ["app.py"]}}))
    f.enact("fleet", f.fleet_object(body))
    change = {"before": digest_of(1), "after": digest_of(2), "instances": ["web-02"]}
    second = f.lease(2, target="db", tiers=[1, 5, 25, 100], changes=[change])
    f.approve(second)
    f.claim(second)
    agree(of_forge(f))


def test_both_accept_broken_glass_with_one_token_that_verified() -> None:
    f = STORIES["main"]().moments["term"].fork()
    it = _hardware(verified_then=True, asked_now=True, flags=5)(f)
    f.claim(it)
    agree(of_forge(f))


def test_both_accept_the_longest_and_shortest_ids() -> None:
    f = STORIES["main"]().moments["fleet"].fork()
    f.intent("INT-20260105-000001-000001")
    f.intent("INT-20260105-001-1")
    f.say("cbo", "lease", f.lease_fields(1, id="LEASE-20260105-000001-000001", intent="INT-20260105-001-1"))
    f.say("cbo", "lease", f.lease_fields(1, id="LEASE-20260105-000001-1", intent="INT-20260105-001-1"))
    agree(of_forge(f))


def test_both_accept_a_claim_in_the_last_second_before_a_review_is_overdue() -> None:
    f = STORIES["glass"]().moments["claimed"].fork()
    f.event("cp20", f.it, "ABORTED", cause="hand", text="")
    f.now += 86_400
    it = f.lease(2)
    f.approve(it)
    f.claim(it)
    agree(of_forge(f))

"""Values that bent statements say in place of what would be right: of their fields, of the ledger, of no use at all."""

from __future__ import annotations

import base64
from hashlib import sha256
from typing import Any

from duel import KEYRING, TOKENS
from duel_course import Course
from duel_moves import Draft
from forging import CAST, LOG_KEY, after, digest_of

from keys.canonical import MAX_INTEGER
from keys.openssh import format_public
from keys.openssh_public import OpenSshKey
from keys.values import ZERO_HASH, parse_time

SCALARS: tuple[Any, ...] = (
    *(None, True, False, 0, 1, 2, 5, 100, 101, 1000, 86_400, MAX_INTEGER, "", "0", "-0", "1.50", "absent"),
    *("auto", "command", "manual", "x" * 64, "x" * 65, "x" * 1024, "x" * 1025, "x" * 4096, "x" * 4097, "a\nb"),
    *("\u202e", "e\u0301", "\0", "\x7f", "\x85", "\U0001f600", "\u0130", "\u212a", "\u0663", "../x", "/", "a//b"),
    *("./a", "a/", ".", "-", "A", [], {}, [[]], "2026-02-30T00:00:00Z", "0000-01-01T00:00:00Z"),
    *("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-01-05T24:00:00Z", "2026-01-05T09:00:60Z"),
    *("LEASE-20260105-000001", "lease-20260105-000001", "INT-20260105-001", "INT-20260105-001-2"),
    *("INT-20260105-\u0663\u0663\u0663", "LEASE-20260105-000009-0", "LEASE-20260105-000009-1234567", ZERO_HASH),
    *("F" * 64, "0" * 63, "http://a", "https://b/c", "ssh-ed25519 AAAA", "two_key", "break_glass", "pass", "fail"),
    *("governor", "approver", "sentinel", "validator"),
)


class Values:
    """What the people of a duel could say. `pool`: field name -> values that were said under it."""

    def __init__(self, course: Course) -> None:
        self.course, self.duel, self.random = course, course.duel, course.random
        self.pool: dict[str, list[Any]] = {}

    def pick(self, *values: Any) -> Any:
        return self.random.choice(values)

    def learn(self, name: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                self.learn(key, item)
        elif isinstance(value, list):
            for item in value[:6]:
                self.learn(name, item)
        values = self.pool.setdefault(name, [])
        if len(values) < 40:
            values.append(value)
        else:
            values[self.random.randrange(40)] = value

    def someone(self) -> str:
        ids = [each.id for each in self.course.state.trust.principals] if self.course.state.trust else ["ada"]
        return str(self.pick(*ids, *ids, *CAST, self.pick(*ids).upper(), "nobody"))

    def head(self) -> dict[str, Any]:
        records = self.duel.forge.records
        subjects = [each.seq for each in (*self.course.state.leases.values(), *self.course.state.proposals.values())]
        count = len(records)
        edges = [seq + extra for seq in subjects[-6:] for extra in (0, 1)]
        size = self.pick(0, 1, count, count - 1, count + 1, self.random.randrange(count + 1), *edges)
        leaf = records[size - 1].leaf if 0 < size <= len(records) else ZERO_HASH
        return {"size": size, "hash": self.pick(*[leaf] * 12, digest_of(1), ZERO_HASH)}

    def a_time(self) -> str:
        now, state = self.duel.forge.now, self.course.state
        edges: list[int] = [now, now, now]
        for lease in list(state.leases.values())[-4:]:
            said = lease.lease
            edges += [
                parse_time(each) for each in (said.not_before, said.approve_by, said.execute_by, said.complete_by)
            ]
        edges += [parse_time(each.proposal.approve_by) for each in list(state.proposals.values())[-4:]]
        edges += [*state.owed_reviews.values(), *(each for each in state.returnable.values() if each is not None)]
        for d in list(state.deployments.values())[-2:]:
            newest = d.samples[-1].n if d.samples else 0
            edges += [(d.bake_started_at or now) + (newest + 1) * d.lease.interval_s - 1]
        edges += [now + 120, now - 120, *(record.seconds for record in self.duel.forge.records[-5:])]
        far = [] if state.trust is None else [parse_time(state.trust.expires)]
        # What is far from here ends every window: a ledger that came there gets nowhere any more.
        near = [each for each in edges if each < now + 1_200]
        return after(self.pick(*(near if self.random.random() < 0.97 else edges + far)), self.pick(-1, 0, 1))

    def subject(self, draft: Draft) -> tuple[str, str] | None:
        state = self.course.state
        known = [(each.lease.id, each.digest) for each in state.leases.values()]
        known += [(each.kind, each.digest) for each in state.proposals.values()]
        name, digest = self.pick(*(known or [("lease", digest_of(1))]))
        named = [(name, digest), (name, digest), (name.lower(), digest), (name, digest_of(9)), (draft.kind, digest)]
        return self.random.choice([None, *named])

    def value(self, name: str) -> Any:
        state, records = self.course.state, self.duel.forge.records
        roll = self.random.random()
        if roll < 0.5 and self.pool.get(name):
            return self.pick(*self.pool[name])
        if roll < 0.62:
            return self.pick(*SCALARS)
        if roll < 0.69:
            return self.a_time()
        if roll < 0.75:
            told = [sha256(record.envelope.body).hexdigest() for record in records[-30:]]
            return self.pick(*(told or [ZERO_HASH]), *(record.leaf for record in records[-10:]))
        if roll < 0.8:
            return self.someone()
        if roll < 0.85:
            keys = [*KEYRING, f"ssh-ed25519 {base64.b64encode(bytes(51)).decode()}", str(LOG_KEY.vkey)]
            return self.pick(*keys, format_public(OpenSshKey(self.pick(*TOKENS).blob)))
        if roll < 0.9:
            kept = self.pick(*(self.duel.forge.objects.kept or {ZERO_HASH: b""}))
            data = self.duel.forge.objects.kept.get(kept, b"")
            return {
                "sha256": self.pick(kept, kept, digest_of(8)),
                "size": len(data) + self.pick(0, 0, 0, 1, -len(data)),
            }
        if roll < 0.95 and state.leases:
            return self.pick(*self.pick(*state.leases.values()).before)
        return self.pick(*(item for values in self.pool.values() for item in values[-2:]), None)

    def change(self, value: Any, where: str) -> tuple[Any, str]:
        """One node of a value, somewhere in it, made another; and where."""
        if isinstance(value, dict) and value and self.random.random() < 0.93:
            return self._change_object(value, where)
        if isinstance(value, list) and value and self.random.random() < 0.85:
            return self._change_list(value, where), where
        if isinstance(value, bool):
            return not value, where
        if isinstance(value, int) and self.random.random() < 0.6:
            return max(0, value + self.pick(-1, 1, 1, 100)), where
        if isinstance(value, str) and value and self.random.random() < 0.15:
            spelled = (value.upper(), value.lower(), value[:-1], value + value[-1], value + " ", value + "\n")
            return self.pick(*spelled), where
        return self.value(where.rpartition(".")[2]), where

    def _change_object(self, value: dict[str, Any], where: str) -> tuple[Any, str]:
        key, roll = self.pick(*value), self.random.random()
        if roll < 0.03:
            return {k: v for k, v in value.items() if k != key}, f"{where} without {key}"
        if roll < 0.05:
            more = self.pick("extra", key + "x", "", *"zzzz", "\u00e9")
            return {**value, more: value[key]}, f"{where} with {more}"
        inner, place = self.change(value[key], f"{where}.{key}")
        return {**value, key: inner}, place

    def _change_list(self, value: list[Any], where: str) -> list[Any]:
        at = self.random.randrange(len(value))
        match self.random.randrange(8):
            case 0:
                return [*value[:at], *value[at + 1 :]]
            case 1:
                return [*value[:at], value[at], *value[at:]]
            case 2:
                return value[::-1]
            case 3:
                return [*value, self.value(where.rpartition(".")[2])]
            case _:
                return [*value[:at], self.change(value[at], where)[0], *value[at + 1 :]]

"""Bending a statement: one thing of it is made other than its signer would have it, and it is signed as it is then."""

from __future__ import annotations

from typing import Any

from duel import KEYRING, SPARES, sign_with
from duel_moves import Draft
from duel_values import Values
from forging import CAST, key_line

from keys.errors import FormatError
from keys.openssh import format_public
from keys.values import format_time, parse_time
from ledger.envelope import Envelope

KINDS = ("trust", "policy", "fleet", "intent", "lease", "review", "cosignature", "objection", "term", "claim", "event",
         "command", "message", "genesis")  # fmt: skip


class Bender(Values):
    """Says drafts, straight or bent."""

    nonce = 0

    # Saying.

    def say(self, draft: Draft) -> str | None:
        """What was drafted, as it is."""
        self.learn("", draft.fields)
        return self._try(draft, {}, None, "straight")

    def bend(self, draft: Draft, times: int = 1) -> str | None:
        """What was drafted, bent; and signed by who is named then, as far as that is possible."""
        forge = self.duel.forge
        now, common, key, words = forge.now, dict[str, Any](), None, []
        for _ in range(times):
            match self.random.randrange(20):
                case 0 | 1 | 2 | 3 | 4 | 5 | 6:
                    fields, where = self.change(draft.fields, "")
                    draft = draft._replace(fields=fields if isinstance(fields, dict) else {})
                    words.append(f"field {where}")
                case 7 | 8 | 9:
                    draft = draft._replace(who=self.someone())
                    words.append(f"who {draft.who}")
                case 10:
                    key = self.pick(*KEYRING)
                    words.append("key")
                case 11 | 12:
                    common["head"] = self.head()
                    words.append(f"head {common['head']['size']}")
                case 13:
                    common["made_at"] = self.a_time()
                    words.append("made_at")
                case 14 | 15:
                    forge.now = max(forge.now, parse_time(self.a_time()))
                    if self.random.random() < 0.5:
                        common["made_at"] = format_time(now)
                    words.append("time")
                case 16:
                    draft = draft._replace(subject=self.subject(draft))
                    words.append("subject")
                case 17:
                    common[self.pick("ledger", "nonce", "by", "head", "made_at", "extra")] = self.value("ledger")
                    words.append("common")
                case 18:
                    return self._crooked(draft)
                case _:
                    forced = self.duel.forced[-40:]
                    told = (
                        forced if forced and self.random.random() < 0.5 else [r.envelope for r in forge.records[-20:]]
                    )
                    return self.duel.attempt(self.random.choice(told), draft.kind, "again") if told else None
        try:
            return self._try(draft, common, key, ", ".join(words))
        finally:
            # What was taken moved the ledger's time on; what was refused did not.
            forge.now = max(now, forge.records[-1].seconds if forge.records else 0)

    def _body(self, draft: Draft, common: dict[str, Any]) -> bytes:
        self.nonce += 1
        said = {**self.duel.forge.common(draft.who), "nonce": f"{self.nonce:032x}", **draft.fields, **common}
        return self.duel.forge.body(draft.kind, said, draft.subject)

    def _try(self, draft: Draft, common: dict[str, Any], line: str | None, what: str) -> str | None:
        try:
            body = self._body(draft, common)
            envelope = self._sign(draft, body, line)
            return self.duel.attempt(envelope, self._name(draft), f"{what}: {draft} {common}")
        except FormatError:
            return "unspeakable"  # no canonical JSON, or too long for a record

    @staticmethod
    def _name(draft: Draft) -> str:
        detail = draft.fields.get("detail")
        return f"{draft.kind} {detail.get('type')}" if isinstance(detail, dict) else draft.kind

    def _sign(self, draft: Draft, body: bytes, line: str | None) -> Envelope:
        held = self.duel.signing(draft.who, proposed=draft.kind in {"cosignature", "objection"})
        fallback = CAST.get(draft.who, ("human", "", []))[0]
        if line is None and not self.duel.forge.records and draft.who in CAST:
            line = key_line(draft.who)
        if line is None and held:
            kind, entry = self.pick(*held)
            return sign_with(entry.key, kind, draft.kind, body)
        kind = held[0][0] if held else fallback
        return sign_with(line or format_public(self.pick(*SPARES).public), kind, draft.kind, body)

    def _crooked(self, draft: Draft) -> str | None:
        """Signed, and not as it should be."""
        try:
            body = self._body(draft, {})
        except FormatError:
            return None
        envelope = self._sign(draft, body, None)
        held = self.duel.signing(draft.who)
        kind = held[0][0] if held else "human"
        line = held[0][1].key if held else format_public(SPARES[0].public)
        match self.random.randrange(7):
            case 0:
                other = self.pick("message", "cosignature")
                envelope = sign_with(line, kind, other, body)
            case 1:
                envelope = sign_with(line, self.pick("human", "agent"), draft.kind, body)
            case 2:
                envelope = sign_with(line, kind, draft.kind, body, flags=self.pick(0, 1, 4, 5, 0x81, 0xFF))
            case 3:
                at = self.random.randrange(len(envelope.sig))
                bit = 1 << self.random.randrange(8)
                envelope = Envelope(
                    body, envelope.keyid, envelope.sig[:at] + bytes([envelope.sig[at] ^ bit]) + envelope.sig[at + 1 :]
                )
            case 4:
                at = self.random.randrange(len(envelope.sig))
                envelope = Envelope(
                    body,
                    envelope.keyid,
                    self.pick(
                        envelope.sig[:at] or b"x", envelope.sig + b"\0", envelope.sig[:at] + b"\0" + envelope.sig[at:]
                    ),
                )
            case 5:
                other_key = sign_with(format_public(self.pick(*SPARES).public), kind, draft.kind, body)
                envelope = Envelope(body, self.pick(envelope.keyid, other_key.keyid), other_key.sig)
            case _:
                changed = body.replace(
                    b'"_type":"https://in-toto.io',
                    self.pick(b'"_type":"http://in-toto.io', b'"_type":"https://in-toto.io'),
                )
                kind_name = self.pick("nothing", "Lease", "", *KINDS)
                changed = self.pick(
                    changed,
                    body.replace(f"calyx/{draft.kind}/v1".encode(), f"calyx/{kind_name}/v1".encode()),
                    body.replace(b'/v1","subject', b'/v2","subject'),
                )
                envelope = sign_with(line, kind, draft.kind, changed)
        return self.duel.attempt(envelope, self._name(draft), f"crooked: {draft}")

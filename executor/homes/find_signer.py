"""Which key a person signs with, and who that person is.

Looked at, in this order: the key that was named; the ssh-agent; the home's own key file, or the one in its settings;
`~/.ssh`. The first enrolled key is taken and said. Public halves choose: no private key is opened whose public half is
not enrolled for the person. Once a key is taken no other one stands in for it: when it fails, the command fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from executor.homes.surroundings import Surroundings, peek_public, read_public
from keys.errors import Refused, Unavailable, UsageError
from keys.openssh_private import load_private_key, peek_private_key
from keys.openssh_public import HARDWARE, OpenSshKey, fingerprint
from keys.principals import Principal, TrustRoot
from keys.signer import AgentSigner, FileSigner, PersonKey, Signer
from keys.words import counted

MAX_NAMED: Final = 10
"""Humans that a hint names."""


class OwnKey(NamedTuple):
    """A person's key before it is enrolled. `path`: its private key file, None when it is in the agent alone."""

    public: OpenSshKey
    signer: Signer
    path: Path | None


def find_me(
    roots: Sequence[TrustRoot],
    me: str | None,
    home_key: Callable[[str], Path | None],
    around: Surroundings,
    named: Path | None = None,
) -> Principal:
    """The human who sits here: `me`, whom the settings name; where they name nobody, whose key was named, or else the
    only one with a key here.

    `roots`: the root in force, and perhaps a proposed one. `home_key`: the file that the home knows for a principal.
    `named`: a private or public key file. No private key is opened.

    Raises: UsageError (`who_are_you`).
    """
    humans = {p.id: p for root in reversed(roots) for p in root.principals if p.kind == "human"}
    if me is not None:
        if me in humans:
            return humans[me]
        raise _who_are_you(f"this home says that you are {me}, whom the trust root does not know", humans)
    half = None if named is None else (read_public(named) if named.suffix == ".pub" else peek_public(named))
    if half is not None:
        public, known = {half.blob}, set[str]()
    else:
        public = {key.key.blob for key in around.agent_keys()} | {key.blob for _, key in around.file_keys()}
        known = {name for name in humans if home_key(name) is not None}
    known |= {p.id for root in roots for p in root.principals for e in p.keys if e.public.blob in public} & set(humans)
    if len(known) == 1:
        return humans[known.pop()]
    if known:
        raise _who_are_you(f"there are keys of {' and '.join(sorted(known))} here", humans)
    looked = str(named) if half is not None else f"{around.agent_state()} or in {around.folder}"
    raise _who_are_you(
        f"this home does not say which principal you are, and no key of an enrolled human is in {looked}", humans
    )


def find_signer(
    roots: Sequence[TrustRoot], principal: str, named: Path | None, home_key: Path | None, around: Surroundings
) -> Signer:
    """The signer of one human, its key said in one line. `named`: the key file that the person asked for, private or
    public. `home_key`: the file that the home knows.

    Raises: Refused (`unknown_principal`, `not_a_human`, `key_not_enrolled`); Unavailable (`key_missing`); as
    `keys.openssh.load_private_key`.
    """
    person = _Person(principal, _keys_of(roots, principal), roots, around)
    return person.named(named) if named is not None else person.found(home_key)


def open_own(name: str, path: Path, around: Surroundings) -> OwnKey:
    """The key with which a person founds a ledger, where it is enrolled for nobody yet. `path`: a private or public key
    file; the agent signs when it holds that key.

    Raises: Unavailable (`key_missing`); Refused (`bad_key_file`); as `keys.openssh.load_private_key`.
    """
    private = path if path.suffix != ".pub" else path.with_suffix("")
    half = read_public(path) if path.suffix == ".pub" else peek_private_key(path).public
    if half is None:
        raise _no_public(path)
    key = PersonKey(name, half, False)
    person = _Person(name, {half.blob: key}, (), around)
    signer = person.from_agent([key]) or person.from_file(private, key)
    return OwnKey(half, signer, private if private.exists() else None)


@dataclass(frozen=True, slots=True)
class _Person:
    principal: str
    keys: Mapping[bytes, PersonKey]
    roots: Sequence[TrustRoot]
    around: Surroundings

    def named(self, path: Path) -> Signer:
        if path.suffix != ".pub":
            public = peek_private_key(path).public
            return self.from_file(path, self.enrolled(path, public))
        half = read_public(path)
        if half is None:
            raise _no_public(path)
        key = self.enrolled(path, half)
        signer = self.from_agent([key])
        if signer is not None:
            return signer
        private = path.with_suffix("")
        try:
            return self.from_file(private, key)
        except Unavailable as error:
            if error.code != "key_missing":
                raise
            raise Unavailable(
                "key_missing",
                f"{fingerprint(half)} is neither in {self.around.agent_state()} nor at {private}",
                hint="add it with ssh-add, or name the private key file",
            ) from None

    def found(self, home_key: Path | None) -> Signer:
        signer = self.from_agent(self.keys.values())
        if signer is not None:
            return signer
        looked = [self.around.agent_state()]
        half = None if home_key is None else self.half_of(home_key)
        if home_key is None:
            looked.append("no key file that this home knows")
        elif half is None:
            looked.append(f"{home_key} (cannot be opened)")
        elif half.blob in self.keys:
            return self.from_file(home_key, self.keys[half.blob])
        else:
            looked.append(f"{home_key} ({fingerprint(half)}, not enrolled)")
        files = 0
        for path, half in self.around.file_keys():
            files += 1
            if half.blob in self.keys:
                return self.from_file(path, self.keys[half.blob])
        looked.append(f"{self.around.folder} ({counted(files, 'Ed25519 key')}; none of them)")
        raise Unavailable(
            "key_missing",
            f"no enrolled key of {self.principal} was found; looked at {', '.join(looked)}",
            hint="add it with ssh-add, or name its file with --key; calyx keys show --all lists the enrolled keys",
        )

    def half_of(self, path: Path) -> OpenSshKey | None:
        try:
            return peek_private_key(path).public
        except Unavailable as error:
            if error.code != "key_missing":
                raise
            return None

    def enrolled(self, path: Path, public: OpenSshKey) -> PersonKey:
        key = self.keys.get(public.blob)
        if key is not None:
            return key
        keyid = fingerprint(public)
        holders = {holder.principal.id for root in self.roots if (holder := root.find_key(keyid)) is not None}
        raise Refused(
            "key_not_enrolled",
            f"{path} holds the key {keyid}, which is enrolled for {' and '.join(sorted(holders)) or 'nobody'}, not for "
            f"{self.principal}",
            hint="calyx keys show --all lists the enrolled keys",
        )

    def from_agent(self, wanted: Iterable[PersonKey]) -> Signer | None:
        blobs = {key.public.blob for key in wanted}
        held = [key for key in self.around.agent_keys() if key.key.blob in blobs]
        if not held or self.around.agent is None:
            return None
        # The agent's order is the person's own, as it is for ssh; a key that is only proposed comes after one in force.
        in_force = {entry.public.blob for root in self.roots[:1] for person in root.principals for entry in person.keys}
        chosen = min(held, key=lambda listed: listed.key.blob not in in_force)
        key = self.keys[chosen.key.blob]
        more = f"; {len(held) - 1} more of yours there, --key FILE.pub names one" if len(held) > 1 else ""
        self.say(key, f"from the ssh-agent ({chosen.comment})", more)
        return AgentSigner(key, self.around.agent, self.before(key))

    def from_file(self, path: Path, key: PersonKey) -> Signer:
        header = peek_private_key(path)
        if header.public.blob != key.public.blob:
            raise Refused(
                "bad_key_file",
                f"{path} holds {fingerprint(header.public)}, and {path}.pub another key",
                hint=f"make the public half again: ssh-keygen -y -f {path} > {path}.pub",
            )
        by_keygen = key.public.type == HARDWARE or header.obstacle
        self.say(key, f"from {path}", ", signed by ssh-keygen" if by_keygen else "")
        if by_keygen:
            from keys.keygen_signer import KeygenSigner

            return KeygenSigner(key, path, self.around.environment, before=self.before(key))
        ask = self.around.passphrase
        private = load_private_key(path, None if ask is None else lambda: ask(path))
        if private.public != key.public:
            raise Refused("bad_key_file", f"{path} was changed while it was opened")
        return FileSigner(self.principal, "human", private)

    def say(self, key: PersonKey, source: str, more: str) -> None:
        asks = "; the trust root asks its token to verify you (PIN or fingerprint)" if key.user_verification else ""
        self.around.tell(f"key {fingerprint(key.public)} {source}{more}{asks}")

    def before(self, key: PersonKey) -> Callable[[], None] | None:
        if key.public.type != HARDWARE:
            return None
        verify = " and verify yourself to it" if key.user_verification else ""
        return lambda: self.around.tell(f"touch your token when it blinks{verify}")


def _keys_of(roots: Sequence[TrustRoot], principal: str) -> dict[bytes, PersonKey]:
    people = [found for root in roots if (found := root.find_principal(principal)) is not None]
    if not people:
        raise Refused("unknown_principal", f"the trust root has no principal {principal}", hint="calyx keys show --all")
    if any(person.kind != "human" for person in people):
        raise Refused("not_a_human", f"{principal} is a machine; people approve here", hint="name yourself with --as")
    keys: dict[bytes, PersonKey] = {}
    for entry in (entry for person in people for entry in person.keys):
        # Two roots may differ about a key: what either asks for is asked for.
        before = keys.get(entry.public.blob)
        verify = entry.user_verification or (before is not None and before.user_verification)
        keys[entry.public.blob] = PersonKey(principal, entry.public, verify)
    return keys


def _no_public(path: Path) -> Refused:
    return Refused("bad_key_file", f"{path} is not the .pub file of an Ed25519 key", hint=f"ssh-keygen -l -f {path}")


def _who_are_you(why: str, humans: Mapping[str, Principal]) -> UsageError:
    names = sorted(humans)
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    listed = ", ".join(names[:MAX_NAMED]) + more
    return UsageError("who_are_you", why, hint=f"name yourself with --as: {listed or 'no human is enrolled'}")

"""SSHSIG: what `ssh-keygen -Y sign` makes, in its one canonical form.

    blob      "SSHSIG", uint32 1, string key blob, string namespace, string "", string "sha512", string signature
    signature string "ssh-ed25519", string 64 bytes
    signature string "sk-ssh-ed25519@openssh.com", string 64 bytes, byte flags, uint32 counter
    signed    "SSHSIG", string namespace, string "", string "sha512", string SHA-512(message)
    by token  SHA-256(application), byte flags, uint32 counter, SHA-256(signed)

Everything before the 64 bytes follows from key and namespace, and everything has a fixed length. So `check` builds the
blob it expects from the key and the namespace that the caller expects, and compares: nothing in the blob chooses how
the blob is verified, and each signature has exactly one blob.

Source: OpenSSH PROTOCOL.sshsig; PROTOCOL.u2f.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from keys.ed25519 import SIGNATURE_SIZE, PublicKey, verify
from keys.errors import CalyxError, FormatError, SignatureRefused
from keys.openssh_private import PrivateKey
from keys.openssh_public import HARDWARE, PLAIN, OpenSshKey, fingerprint, fingerprint_blob
from keys.openssh_public import parse_blob as parse_key
from keys.values import format_base64, parse_base64
from keys.wire import Reader, string, u32
from keys.words import counted

NAMESPACE_APPROVAL: Final = "approval-v1@station.calyx"
NAMESPACE_STATEMENT: Final = "statement-v1@station.calyx"

USER_PRESENT: Final = 0x01
USER_VERIFIED: Final = 0x04

MAX_BLOB: Final = 2048
MAX_ARMOR: Final = 8192
MAX_NAMESPACE: Final = 128
_MAGIC: Final = b"SSHSIG"
_VERSION: Final = 1
_HASH: Final = b"sha512"
# Of a token's signature, after the 64 bytes: flags and counter.
_TOKEN_TAIL: Final = 5
_BEGIN: Final = "-----BEGIN SSH SIGNATURE-----"
_END: Final = "-----END SSH SIGNATURE-----"
_ARMOR_WIDTH: Final = 70


@dataclass(frozen=True, slots=True)
class SshSig:
    """A well-formed SSHSIG blob. Well formed is not verified: only `check` proves anything.

    `raw`: 64 bytes. `flags` (one byte) and `counter` (32 bits): of a hardware token's signature, else None.
    """

    key: OpenSshKey
    namespace: str
    raw: bytes
    flags: int | None = None
    counter: int | None = None


def parse_blob(blob: bytes) -> SshSig:
    """Parse a blob of at most 2 KiB.

    Raises: FormatError for another version or hash, a reserved field that is not empty, a signature of another type
    than its key, bytes after the end, or any other form than the one that `format_blob` writes; SignatureRefused
    (`bad_key`).
    """
    if len(blob) > MAX_BLOB:
        raise FormatError(f"an SSH signature is over the limit of {MAX_BLOB} bytes", code="too_large")
    signer, spelled, signature = _split(blob)
    key, namespace = parse_key(signer), _parse_namespace(spelled)
    raw, flags, counter = _parse_inner(signature, key.type)
    parsed = SshSig(key, namespace, raw, flags, counter)
    if format_blob(parsed) != blob:
        raise FormatError("an SSH signature is not canonical", code="not_canonical")
    return parsed


def _split(blob: bytes) -> tuple[bytes, bytes, bytes]:
    """The blob of the key, the namespace and the inner signature, whatever they are."""
    reader = Reader(blob, "an SSH signature")
    if reader.take(len(_MAGIC)) != _MAGIC:
        raise FormatError("an SSH signature does not begin with SSHSIG", hint="give the blob, not its armor")
    if reader.u32() != _VERSION:
        raise FormatError("an SSH signature is not of version 1")
    signer, spelled = reader.string(), reader.string()
    if reader.string():
        raise FormatError("an SSH signature's reserved field is not empty")
    if reader.string() != _HASH:
        raise FormatError("an SSH signature's hash is not sha512", hint="sign with -O hashalg=sha512, the default")
    signature = reader.string()
    reader.end()
    return signer, spelled, signature


def _parse_inner(data: bytes, key_type: str) -> tuple[bytes, int | None, int | None]:
    """The 64 bytes, flags and counter of a signature by a key of that type."""
    inner = Reader(data, "an SSH signature's inner signature")
    if inner.string() != key_type.encode():
        raise FormatError("an SSH signature is of another type than its key")
    raw = inner.string()
    if len(raw) != SIGNATURE_SIZE:
        raise FormatError(f"an SSH signature holds {counted(len(raw), 'byte')} of signature, not 64")
    flags, counter = (inner.u8(), inner.u32()) if key_type == HARDWARE else (None, None)
    inner.end()
    return raw, flags, counter


def format_blob(signature: SshSig) -> bytes:
    """Encode a signature. Inverse of `parse_blob`."""
    tail = b""
    if signature.flags is not None and signature.counter is not None:
        tail = bytes([signature.flags]) + u32(signature.counter)
    return _frame(signature.key, signature.namespace) + signature.raw + tail


def parse_armor(text: str) -> bytes:
    """Read the blob out of a `.sig` file: header, base64 in lines of any width, footer.

    Raises: FormatError. The blob itself is not parsed.
    """
    if len(text) > MAX_ARMOR:
        raise FormatError(f"an SSH signature file is over the limit of {MAX_ARMOR} characters", code="too_large")
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    if len(lines) < 3 or lines[0] != _BEGIN or lines[-1] != _END:
        raise FormatError("not an SSH signature file", hint="give the .sig file that ssh-keygen -Y sign wrote")
    try:
        # Not binascii's strict mode alone: it takes padding where none is due, and bits behind the last byte.
        return parse_base64("".join(lines[1:-1]))
    except FormatError:
        raise FormatError("an SSH signature file's base64 is damaged") from None


def format_armor(blob: bytes) -> str:
    """Write a blob as the text of a `.sig` file, in lines of 70 as ssh-keygen does."""
    encoded = format_base64(blob)
    lines = [encoded[at : at + _ARMOR_WIDTH] for at in range(0, len(encoded), _ARMOR_WIDTH)]
    return "\n".join([_BEGIN, *lines, _END]) + "\n"


def signed_data(namespace: str, message: bytes) -> bytes:
    """The bytes that a key signs for `message`; also what an ssh-agent is asked to sign."""
    return _preamble(namespace) + hashlib.sha512(message).digest()


def sign(private: PrivateKey, namespace: str, message: bytes) -> bytes:
    """Sign `message` in `namespace`; the blob."""
    return format_blob(SshSig(private.public, namespace, private.sign_raw(signed_data(namespace, message))))


def wrap(key: OpenSshKey, namespace: str, inner: bytes) -> bytes:
    """The blob of an inner signature over `signed_data` that an ssh-agent or a token returned; not verified.

    Raises: FormatError when `inner` is not a signature of the key's type.
    """
    head = _frame_head(key, namespace)
    blob = head + string(inner)
    parse_blob(blob)
    return blob


def check(blob: bytes, *, key: OpenSshKey, namespace: str, message: bytes, user_verification: bool) -> None:
    """Prove that the holder of `key` signed `message` for `namespace`, and was present if `key` is a token's.

    `user_verification`: the token must also have verified its user (PIN, fingerprint); a plain key never can.

    Raises: SignatureRefused: `wrong_key`, `wrong_namespace`, `user_absent`, `user_unverified`, `bad_signature`;
    FormatError for a blob that is not the canonical one.
    """
    verify(*unwrap(blob, key=key, namespace=namespace, message=message, user_verification=user_verification))


def unwrap(
    blob: bytes, *, key: OpenSshKey, namespace: str, message: bytes, user_verification: bool
) -> tuple[PublicKey, bytes, bytes]:
    """What remains to be verified of a signature when everything around it is right: the raw public key, the bytes that
    it must have signed, and the 64 bytes. Proves nothing.

    Raises: as `check`, but `bad_signature`.
    """
    frame = _frame(key, namespace)
    tail = _TOKEN_TAIL if key.type == HARDWARE else 0
    if len(blob) != len(frame) + SIGNATURE_SIZE + tail or not blob.startswith(frame):
        raise _mismatch(blob, key, namespace)
    raw = blob[len(frame) : len(frame) + SIGNATURE_SIZE]
    signed = signed_data(namespace, message)
    if key.application is None:
        if user_verification:
            raise _unverified()
        return key.raw, signed, raw
    flags = blob[-_TOKEN_TAIL]
    if not flags & USER_PRESENT:
        raise SignatureRefused(
            "the token signed without its user's touch", code="user_absent", hint="use a key without no-touch-required"
        )
    if user_verification and not flags & USER_VERIFIED:
        raise _unverified()
    application = hashlib.sha256(key.application.encode("ascii")).digest()
    return key.raw, application + blob[-_TOKEN_TAIL:] + hashlib.sha256(signed).digest(), raw


# An audit meets the same few keys in every entry. 1,024 frames take under 1 MiB.
@lru_cache(maxsize=1024)
def _frame(key: OpenSshKey, namespace: str) -> bytes:
    name = string(key.type.encode())
    tail = _TOKEN_TAIL if key.type == HARDWARE else 0
    inner_size = len(name) + 4 + SIGNATURE_SIZE + tail
    return _frame_head(key, namespace) + u32(inner_size) + name + u32(SIGNATURE_SIZE)


def _frame_head(key: OpenSshKey, namespace: str) -> bytes:
    spelled = _format_namespace(namespace)
    return _MAGIC + u32(_VERSION) + string(key.blob) + string(spelled) + string(b"") + string(_HASH)


@lru_cache(maxsize=16)
def _preamble(namespace: str) -> bytes:
    digest_size = u32(64)
    return _MAGIC + string(_format_namespace(namespace)) + string(b"") + string(_HASH) + digest_size


def _parse_namespace(data: bytes) -> str:
    if not 0 < len(data) <= MAX_NAMESPACE or not data.isascii() or not data.decode("ascii").isprintable():
        raise FormatError(f"an SSH signature's namespace is not 1 to {MAX_NAMESPACE} printable ASCII characters")
    return data.decode("ascii")


def _format_namespace(namespace: str) -> bytes:
    data = namespace.encode("utf-8", "surrogatepass")
    _parse_namespace(data)
    return data


def _mismatch(blob: bytes, key: OpenSshKey, namespace: str) -> CalyxError:
    # Not the blob that this key and namespace lead to: it is refused whatever it is. Reading only finds the words, in
    # the order of docs/FORMAT.md, section 5: whether another's key could be enrolled does not matter.
    try:
        signer, spelled, signature = _split(blob)
        name = signer[4 : 4 + int.from_bytes(signer[:4], "big")]
        if name not in {PLAIN.encode(), HARDWARE.encode()}:
            return FormatError("an SSH signature is by a key of another type than Ed25519", code="unsupported_key")
        _parse_inner(signature, name.decode())
    except CalyxError as error:
        return error
    if signer != key.blob:
        text = f"the signature is by {fingerprint_blob(signer)}, not by {fingerprint(key)}"
        return SignatureRefused(text, code="wrong_key")
    if spelled != namespace.encode():
        other = spelled[:MAX_NAMESPACE].decode("ascii", "replace")
        return SignatureRefused(
            f"the signature is for the namespace {other!r}, not {namespace}",
            code="wrong_namespace",
            hint=f"sign with ssh-keygen -Y sign -n {namespace}",
        )
    return SignatureRefused("the signature is not in canonical form")


def _unverified() -> SignatureRefused:
    return SignatureRefused(
        "the signature was made without verifying the user, which the trust root asks of this key",
        code="user_unverified",
        hint="sign with a hardware key made with -O verify-required",
    )

"""Signing by the person's own ssh-keygen, for key files that this program does not open: a token's, whose secret never
leaves the token, and those with a cipher or a number of rounds that are not ours.

Source: ssh-keygen(1), `-Y sign`; OpenSSH PROTOCOL.sshsig.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from keys import sshsig
from keys.errors import CalyxError, Unavailable
from keys.openssh_public import fingerprint
from keys.signer import PersonKey, check_own, refused_own

KEYGEN_S: Final = 120.0
"""Seconds for one signature: passphrase, PIN and touch."""
_GRACE_S: Final = 2.0
_STDERR: Final = 2


class KeygenSigner:
    """Signs for a human with a private key file, by `ssh-keygen -Y sign` at the person's terminal."""

    def __init__(
        self,
        key: PersonKey,
        path: Path,
        environment: Mapping[str, str],
        *,
        before: Callable[[], None] | None = None,
        seconds: float = KEYGEN_S,
    ) -> None:
        """`path`: the private key file. `environment`: of ssh-keygen, without the agent's socket: the file was chosen,
        so the file signs. `before`: called before each signature, to say what the person has to do.
        """
        self.principal: Final = key.principal
        self.keyid: Final = fingerprint(key.public)
        self._key: Final = key
        self._path: Final = path
        self._environment: Final = {name: value for name, value in environment.items() if name != "SSH_AUTH_SOCK"}
        self._before: Final = before
        self._seconds: Final = seconds

    def sign(self, pae: bytes, namespace: str) -> bytes:
        """Sign an envelope's PAE, and prove that ssh-keygen did what it was asked for.

        Raises: Unavailable (`keygen_missing`, `keygen_failed`, `keygen_silent`); SignatureRefused.
        """
        if self._before is not None:
            self._before()
        try:
            # A file of its own, 0700 around it: standard input stays the person's, for a passphrase or PIN.
            with TemporaryDirectory(prefix="calyx-sign-") as folder:
                message = Path(folder) / "statement"
                message.write_bytes(pae)
                self._run(["ssh-keygen", "-Y", "sign", "-n", namespace, "-f", str(self._path), str(message)])
                armor = _read_armor(Path(folder) / "statement.sig")
        except OSError as error:
            raise self._failed(f"{error.filename or 'its temporary files'}: {error.strerror}") from None
        try:
            blob = sshsig.parse_armor(armor)
            check_own(self._key, namespace, pae, blob)
        except CalyxError as error:
            raise refused_own(error, f"ssh-keygen's signature with {self._path} is refused") from None
        return blob

    def _run(self, command: list[str]) -> None:
        import subprocess

        try:
            # What it says goes to standard error: standard output belongs to the command's result.
            process = subprocess.Popen(command, env=self._environment, stdout=_STDERR)
        except FileNotFoundError:
            raise Unavailable(
                "keygen_missing",
                f"{self._path} needs ssh-keygen to sign, and it is not installed",
                hint="install OpenSSH, or add the key to an ssh-agent",
            ) from None
        try:
            status = process.wait(self._seconds)
        except subprocess.TimeoutExpired:
            raise Unavailable(
                "keygen_silent",
                f"ssh-keygen did not sign with {self._path} within {self._seconds:g} seconds",
                hint="touch the token sooner; nothing was signed",
            ) from None
        finally:
            if process.poll() is None:
                # Asked to end, not killed: it gives the terminal its echo back.
                process.terminate()
                try:
                    process.wait(_GRACE_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        if status:
            raise self._failed(f"it ended with {status}")

    def _failed(self, why: str) -> Unavailable:
        return Unavailable(
            "keygen_failed",
            f"ssh-keygen did not sign with {self._path}: {why}",
            hint="see what it said above: is the token plugged in, the passphrase or PIN right?",
        )

    def __repr__(self) -> str:
        return f"KeygenSigner({self.principal}, {self.keyid})"


def _read_armor(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(sshsig.MAX_ARMOR + 1).decode("latin-1")

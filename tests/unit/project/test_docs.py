"""The documents hold: links lead somewhere, commands exist, limits are the code's, and nothing names a machine.

After a change of a limit, `PYTHONPATH=tests/support python tests/unit/project/test_docs.py` writes the table again.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pytest
from documents import CHECKOUT, SECURITY, read_part, write_parts

from executor.command_line import ALIASES, COMMANDS, load_command

DOCUMENTS: Final = sorted([*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/*.md")])
KIB: Final = 1024

LIMITS: Final = (
    ("statement, and any JSON where nothing else is said", "keys.canonical.MAX_BYTES", "bytes"),
    ("nesting of JSON", "keys.canonical.MAX_DEPTH", "levels"),
    ("record", "ledger.record.MAX_RECORD", "bytes"),
    ("signature in an envelope, as base64", "ledger.envelope.MAX_SIGNATURE", "characters"),
    ("SSH signature", "keys.sshsig.MAX_BLOB", "bytes"),
    ("SSH signature file", "keys.sshsig.MAX_ARMOR", "characters"),
    ("file with what is to be signed elsewhere", "executor.signing.offline.MAX_TO_SIGN", "bytes"),
    ("SSH public key", "keys.openssh_public.MAX_BLOB", "bytes"),
    ("private key file", "keys.openssh_private.MAX_FILE", "bytes"),
    ("rounds of a passphrase's derivation", "keys.openssh_private.MAX_ROUNDS", "rounds"),
    ("message to or from an ssh-agent", "keys.ssh_agent.MAX_MESSAGE", "bytes"),
    ("keys that an ssh-agent lists", "keys.ssh_agent.MAX_KEYS", "keys"),
    ("an ssh-agent's list of keys", "keys.agent_socket.LIST_S", "seconds"),
    ("an ssh-agent's signature", "keys.agent_socket.SIGN_S", "seconds"),
    ("ssh-keygen's signature", "keys.keygen_signer.KEYGEN_S", "seconds"),
    ("names of `~/.ssh` that are looked at", "executor.homes.surroundings.MAX_LISTED", "names"),
    ("checkpoint or other note", "ledger.note.MAX_NOTE", "bytes"),
    ("signatures on a note", "ledger.note.MAX_SIGNATURES", "signatures"),
    ("proof", "ledger.proof.MAX_PROOF", "bytes"),
    ("hashes of a proof", "ledger.proof.MAX_HASHES", "hashes"),
    ("entry bundle of an export", "ledger.tiles.MAX_BUNDLE", "bytes"),
    ("files that may be missing from an export before a mirror gives up", "ledger.exports.mirror.MAX_MISSING", "files"),
    ("export that is mirrored, unless `--max-gib` says more", "executor.commands.audit_from.MAX_GIB", "GiB"),
    ("time for a file of it, and a second for each 64 KiB", "executor.remote.http_source.PATIENCE_S", "seconds"),
    ("value in the ledger's database", "ledger.sqlite.file.MAX_BLOB", "bytes"),
    ("object that is read into memory", "ledger.objects.MAX_IN_MEMORY", "bytes"),
    ("fleet body", "policies.fleet.MAX_FLEET_BYTES", "bytes"),
    ("list of names or paths", "policies.names.MAX_LIST_BYTES", "bytes"),
    ("names or paths inline", "policies.kinds.MAX_INLINE_NAMES", "items"),
    ("policy or fleet as YAML", "policies.yaml_file.MAX_CHARACTERS", "characters"),
    ("tree manifest", "executor.trees.tree.MAX_MANIFEST", "bytes"),
    ("path in a tree", "executor.trees.tree.MAX_PATH", "bytes"),
    ("depth of a path", "executor.trees.tree.MAX_DEPTH", "segments"),
    ("entries of a directory that is scanned", "executor.trees.scan.MAX_ENTRIES", "entries"),
    ("tar archive, unpacked", "executor.trees.archive.MAX_CONTENT", "bytes"),
    ("header of a member of it", "executor.trees.archive_headers.MAX_HEADER", "bytes"),
    ("headers before one member of it", "executor.trees.archive_headers.MAX_HEADERS", "headers"),
    ("files that a reverse patch rests on", "executor.trees.reverse.MAX_CONTENT", "bytes"),
    ("output of a hook, a probe or a reload that is kept", "executor.hosts.command.MAX_OUTPUT", "bytes"),
    ("patch", "executor.trees.patch_format.MAX_PATCH", "bytes"),
    ("content that a patch's binary parts announce", "executor.trees.patch_format.MAX_CONTENT", "bytes"),
    ("address of a home elsewhere", "executor.remote.address.MAX_ADDRESS", "characters"),
    ("message to or from a home elsewhere", "executor.remote.frames.MAX_MESSAGE", "bytes"),
    ("chunk of an object, in a frame", "executor.remote.frames.MAX_DATA", "bytes"),
    ("records in one answer", "executor.remote.messages.MAX_RECORDS", "records"),
    ("bytes of records in one answer, before the last", "executor.remote.messages.MAX_BATCH", "bytes"),
    ("objects that a connection brings before a statement", "executor.remote.messages.MAX_PUT", "bytes"),
    ("number of those objects", "executor.remote.messages.MAX_PUTS", "objects"),
    ("statements in one submission", "executor.remote.messages.MAX_ENVELOPES", "statements"),
    ("lines of a host's standard error that are shown", "executor.remote.ssh.MAX_LINES", "lines"),
    ("report of a review that is shown", "executor.render.said.MAX_REPORT", "bytes"),
    ("fence of a host", "executor.hosts.fence.MAX_FENCE", "bytes"),
    ("ledgers before the present one that a fence names", "executor.hosts.host.MAX_LINEAGE", "ledgers"),
    ("answer of a probe", "executor.hosts.probe.MAX_BODY", "bytes"),
    ("answer with counters, or of Prometheus", "executor.metrics.http.MAX_BODY", "bytes"),
    ("line of the event feed that is read back", "executor.svf.lines.MAX_LINE", "bytes"),
    ("preview in a line of the event feed", "executor.svf.preview.MAX_PREVIEW", "characters"),
    ("Python file that CP18 reads", "executor.agents.syntax.MAX_BYTES[python]", "bytes"),
    ("JSON file that CP18 reads", "executor.agents.syntax.MAX_BYTES[json]", "bytes"),
    ("YAML file that CP18 reads", "executor.agents.syntax.MAX_BYTES[yaml]", "bytes"),
    ("TOML file that CP18 reads", "executor.agents.syntax.MAX_BYTES[toml]", "bytes"),
    ("memory of the process that reads them", "executor.agents.syntax.MAX_MEMORY", "bytes"),
    ("file of notifications' addresses", "executor.notify.addresses.MAX_FILE", "bytes"),
    ("channels in it", "executor.notify.addresses.MAX_CHANNELS", "channels"),
    ("addresses of a channel", "executor.notify.addresses.MAX_ADDRESSES", "addresses"),
    ("text of a notification", "executor.notify.notices.MAX_BODY", "characters"),
    ("notifications that wait", "executor.notify.outbox.MAX_PENDING", "notifications"),
    ("time of one delivery", "executor.notify.post.SEND_S", "seconds"),
)


def limit(place: str) -> int:
    """The value of a constant, `module.NAME` or `module.NAME[key]`."""
    name, _, key = place.removesuffix("]").partition("[")
    module, _, constant = name.rpartition(".")
    value: Any = getattr(import_module(module), constant)
    return int(value[key] if key else value)


def spell(value: int, unit: str) -> str:
    """A limit for a person."""
    if unit == "bytes":
        for size, name in ((KIB**3, "GiB"), (KIB**2, "MiB"), (KIB, "KiB")):
            if value % size == 0:
                return f"{value // size} {name}"
    return f"{value:,} {unit}"


def limits_table() -> str:
    """What is limited, to how much, and where that stands."""
    rows = ["| what | at most | where |", "|---|---|---|"]
    rows += [f"| {what} | {spell(limit(place), unit)} | `{place}` |" for what, place, unit in LIMITS]
    return "\n".join(rows)


def test_the_limits_are_those_of_the_code() -> None:
    assert read_part(SECURITY, "limits") == limits_table()


def anchors(document: Path) -> set[str]:
    """The anchors that a page's headings get where it is rendered."""
    headings = re.findall(r"^#+ (.+)$", document.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_relative_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text("utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        place = document.parent / name if name else document
        assert place.exists(), f"{document.name} links to {target}"
        assert CHECKOUT in place.resolve().parents, f"{document.name} links out of the checkout: {target}"
        if anchor:
            assert anchor in anchors(place), f"{document.name} links to {target}"


def commands_in(text: str) -> set[tuple[str, str]]:
    """The words after `calyx` wherever one is quoted: the first, and the second where it is a plain word."""
    quoted = re.findall(r"```.*?```|`[^`\n]+`|^ {4}[^\n]+$", text, re.DOTALL | re.MULTILINE)
    found = [match for part in quoted for match in re.findall(r"\bcalyx ([a-z]+)(?: ([a-z0-9]+))?", part)]
    return set(found)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_that_a_document_names_exist(document: Path) -> None:
    for first, second in sorted(commands_in(document.read_text("utf-8"))):
        name = ALIASES.get(first, first)
        assert name in COMMANDS, f"{document.name} names calyx {first}"
        command = load_command(COMMANDS[name])
        if hasattr(command, "commands"):
            assert second in {"", *command.commands}, f"{document.name} names calyx {first} {second}"


def test_the_search_for_commands_sees_each_way_of_quoting_one() -> None:
    text = "`calyx audit --full` and\n\n    $ calyx ledger log\n\n```sh\ncalyx agent run cp14\n```\nnot calyx prose"
    assert commands_in(text) == {("audit", ""), ("ledger", "log"), ("agent", "run")}


# Spelled in parts, so that this file does not hold what it forbids.
FOREIGN: Final = tuple(
    re.compile(pattern)
    for pattern in (
        "py" + r"pi\.",
        "python" + r"hosted\.",
        r"(?<![\w.<>~-])/(?:root|work|home|Users)/",
        r"(?<![\w.<>~-])/tmp/" + "brief",
        r"\b(?:10|192)\.\d+\.\d+\.\d+\b",
    )
)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_no_package_host_and_no_machine(document: Path) -> None:
    text = document.read_text("utf-8")
    for pattern in FOREIGN:
        assert not pattern.search(text), f"{document.name}: {pattern.pattern}"


@pytest.mark.parametrize(
    "text", ["see https://" + "py" + "pi.org/x", "in " + "/ro" + "ot/x", "(" + "/wo" + "rk/main)", "at 10.0.0.1"]
)
def test_the_search_for_foreign_names_finds_them(text: str) -> None:
    assert any(pattern.search(text) for pattern in FOREIGN)


if __name__ == "__main__":
    write_parts(SECURITY, {"limits": limits_table})

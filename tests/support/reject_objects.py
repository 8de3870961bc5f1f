"""Forgeries of objects that no law reads, and an audit looks for."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from forging import Forge, digest_of, names
from reject_registry import Doing, add, reject
from reject_stories import sample_fields

from keys.canonical import format_json

# Objects that no law reads, and an audit looks for.


def _object(name: str, what: str, code: str, say: Doing, moment: str = "fleet", story: str = "main") -> None:
    add(f"object_{name}", what, moment, code, say, story)


LOST = {"sha256": digest_of(0), "size": 9}


def _artifact(data: bytes | None, **changes: Any) -> Doing:
    """A lease of a directory whose manifest is this."""

    def doing(f: Forge) -> None:
        ref = LOST if data is None else f.objects.put(data).to_json()
        assert isinstance(ref, dict)
        changed = {**ref, **changes}
        instances = names(4)
        f.intent("INT-20260105-001")
        f.forged = f.head.size
        group = {"before": digest_of(1), "after": changed["sha256"], "instances": instances}
        f.say("cbo", "lease", f.lease_fields(1, artifact={"type": "directory", **changed}, changes=[group]))

    return doing


def _manifest(*rows: Any) -> bytes:
    return format_json(["calyx-tree-v1", *rows])


FILE = sha256(b"a file").hexdigest()
_object("manifest_missing", "A directory's manifest is nowhere.", "object_missing", _artifact(None))
_object(
    "manifest_of_another_size",
    "A directory's manifest has another size.",
    "object_mismatch",
    _artifact(_manifest(), size=9),
)
_object(
    "manifest_of_another_magic", "A directory's object is another list.", "bad_format", _artifact(b'["calyx-tree-v2"]')
)
_object(
    "manifest_with_white_space",
    "A directory's manifest is not canonical.",
    "not_canonical",
    _artifact(b'["calyx-tree-v1", []]'),
)
_object("manifest_of_no_list", "A directory's object is no list.", "bad_format", _artifact(b"{}"))
_object(
    "manifest_with_a_device",
    "A directory's manifest lists a device.",
    "bad_format",
    _artifact(_manifest(["a", "device"])),
)
_object(
    "manifest_with_a_short_row",
    "A file of a manifest has no size.",
    "bad_format",
    _artifact(_manifest(["a", "file", FILE])),
)
_object(
    "manifest_with_a_short_hash",
    "The hash of a file of a manifest has 63 digits.",
    "bad_format",
    _artifact(_manifest(["a", "file", FILE[:-1], 6])),
)
_SOUND = ["file", FILE, 6]
for _name, _what, _code, _rows in (
    ("out_of_order", "lists its files in another order", "bad_tree", [["b", *_SOUND], ["a", *_SOUND]]),
    ("that_repeats", "lists a file twice", "bad_tree", [["a", *_SOUND], ["a", *_SOUND]]),
    ("without_a_directory", "lists a file and not its directory", "bad_tree", [["a/b", *_SOUND]]),
    ("with_a_file_as_directory", "lists a file in a file", "bad_tree", [["a", *_SOUND], ["a/b", *_SOUND]]),
    ("that_leaves_its_tree", "lists a file above the tree", "bad_path", [["../a", *_SOUND]]),
    ("with_an_absolute_path", "lists an absolute path", "bad_path", [["/a", *_SOUND]]),
    ("with_a_control_character", "lists a name with a line feed", "bad_path", [["a\n", *_SOUND]]),
    ("with_a_unit_separator", "lists a name with U+001F", "bad_path", [["a\x1f", *_SOUND]]),
    ("with_a_delete_character", "lists a name with U+007F", "bad_path", [["a\x7f", *_SOUND]]),
    ("with_a_control_character_of_latin_1", "lists a name with U+009F", "bad_path", [["a\x9f", *_SOUND]]),
    ("with_a_long_name", "lists a name of 256 bytes", "bad_path", [["a" * 256, *_SOUND]]),
    ("with_an_absolute_link", "lists a link to an absolute path", "bad_path", [["a", "link", "/b"]]),
    ("with_a_link_to_nothing", "lists a link whose target is empty", "bad_path", [["a", "link", ""]]),
):
    _object(f"manifest_{_name}", f"A directory's manifest {_what}.", _code, _artifact(_manifest(*_rows)))
_object(
    "manifest_with_a_size_that_is_true",
    "A file of a manifest, of one byte, has true for its size.",
    "bad_format",
    _artifact(_manifest(["a", "file", sha256(b"1").hexdigest(), True])),
)
_object(
    "manifest_with_a_link_to_a_number",
    "A link of a manifest leads to a number.",
    "bad_format",
    _artifact(_manifest(["a", "link", 7])),
)
_object(
    "file_missing", "A file of a directory is nowhere.", "object_missing", _artifact(_manifest(["a", "file", FILE, 6]))
)


def _says(kind: str, who: str, fields: dict[str, Any], moment: str, code: str = "object_missing") -> None:
    def doing(f: Forge) -> None:
        f.forged = f.head.size
        f.say(who, kind, fields, f.it)

    _object(
        f"of_a_{kind}_missing" + ("_report" if "epoch" in fields else ""),
        f"What a {kind} names is nowhere.",
        code,
        doing,
        moment,
    )


_says("review", "cp18", {"role": "validator", "verdict": "pass", "summary": "", "findings": LOST}, "lease")
_says(
    "event",
    "cp18",
    {"epoch": None, "detail": {"type": "SANITY", "verdict": "pass", "report": LOST, "text": ""}},
    "claimed",
)


@reject("baking", "object_missing")
def object_of_a_sample_missing(f: Forge) -> None:
    """The raw values of a sample are nowhere."""
    f.now += 15
    f.forged = f.head.size
    f.event("cp19", f.it, "SAMPLE", **{**sample_fields(f, f.it, 1), "raw": LOST})


@reject("approved", "object_missing")
def object_of_a_cohort_missing(f: Forge) -> None:
    """A claim names a cohort by the hash and size of its list, which is nowhere."""
    fields = f.claim_fields(f.it)
    data = format_json(fields["cohorts"][0]["instances"])
    fields["cohorts"][0]["instances"] = {"sha256": sha256(data).hexdigest(), "size": len(data)}
    f.forged = f.head.size
    f.say("cp20", "claim", fields, f.it)


@reject("fleet", "object_missing")
def object_of_a_patch_missing(f: Forge) -> None:
    """A patch is nowhere."""
    f.intent("INT-20260105-001")
    f.forged = f.head.size
    f.say("cbo", "lease", f.lease_fields(1, artifact={"type": "patch", **LOST}))


@reject("fleet", "object_mismatch")
def object_changed(f: Forge) -> None:
    """A patch has the right size and another content."""
    f.intent("INT-20260105-001")
    f.forged = f.head.size
    f.say("cbo", "lease", f.lease_fields(1))
    f.objects.kept[sha256(b"patch").hexdigest()] = b"Patch"


@reject("fleet", "object_missing")
def object_of_a_tree_before_without_its_file(f: Forge) -> None:
    """The tree before is known by its manifest, and a file of it is nowhere."""
    tree = f.objects.put(_manifest(["a", "exec", FILE, 6]))
    f.intent("INT-20260105-001")
    f.forged = f.head.size
    group = {"before": tree.sha256, "after": digest_of(2), "instances": names(4)}
    f.say("cbo", "lease", f.lease_fields(1, changes=[group]))


@reject("fleet", "object_mismatch")
def object_of_a_tree_before_changed(f: Forge) -> None:
    """The manifest that is kept for the tree before is that of another tree."""
    f.objects.kept[digest_of(1)] = _manifest(["a", "dir"])
    f.intent("INT-20260105-001")
    f.forged = f.head.size
    f.say("cbo", "lease", f.lease_fields(1))


@reject("genesis", "object_mismatch")
def object_of_a_fleet_changed(f: Forge) -> None:
    """A fleet's body has the right size and another content."""
    ref = f.fleet_object()
    data = f.objects.kept[ref["sha256"]]
    f.objects.kept[ref["sha256"]] = data.replace(b"web-01", b"web-09")
    f.forge("ada", "fleet", f.proposal("fleet", ref))


@reject("genesis", "object_mismatch")
def object_of_a_fleet_that_is_no_json(f: Forge) -> None:
    """What is kept for a fleet's body is another content, and no JSON."""
    ref = f.fleet_object()
    f.objects.kept[ref["sha256"]] = b"{" * ref["size"]
    f.forge("ada", "fleet", f.proposal("fleet", ref))

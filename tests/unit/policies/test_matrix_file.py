"""YAML that two readers could read in two ways is refused, with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from refusal import refused

import policies
from keys.errors import FormatError
from policies.matrix import CapabilityMatrix, path_allowed
from policies.matrix_file import default_matrix_text, load_matrix
from policies.yaml_file import MAX_CHARACTERS

DEFAULT = default_matrix_text()


def line_of(text: str) -> int:
    return DEFAULT[: DEFAULT.index(text)].count("\n") + 1


def changed(old: str, new: str) -> str:
    assert old in DEFAULT
    return DEFAULT.replace(old, new, 1)


def test_packaged_matrix_deploys_nothing() -> None:
    matrix = load_matrix(DEFAULT)
    assert not matrix.deployment_enabled()
    assert [matrix.phases.reflect.status, matrix.phases.review.status] == ["implemented", "implemented"]
    assert [matrix.phases.sandbox.status, matrix.phases.deploy.status] == ["implemented", "pending"]
    terms = matrix.deploy_production
    assert not terms.enabled
    assert (terms.tiers, terms.bake_s, terms.interval_s, terms.retention_s) == ((5, 25, 100), 900, 15, 7 * 86_400)
    assert terms.reviews == ("sentinel", "validator")
    assert not terms.break_glass.enabled
    limits = {gate.source: (gate.against, gate.breach, gate.limit, gate.absolute) for gate in terms.gates}
    assert limits == {
        "tes": ("baseline", "below", "5", "70"),
        "error_rate": ("absolute", "above", "10", None),
        "cpu": ("absolute", "above", "90", None),
        "memory": ("absolute", "above", "85", None),
    }


def test_packaged_matrix_explains_every_field() -> None:
    comments = [line for line in DEFAULT.splitlines() if line.lstrip().startswith("#")]
    assert len(comments) > 50
    assert (Path(policies.__path__[0]) / "capability_matrix.yaml").read_text() == DEFAULT


def test_both_switches_are_needed() -> None:
    one = changed("enabled: false", "enabled: true")
    assert not load_matrix(one).deployment_enabled()
    assert load_matrix(one.replace("status: pending", "status: implemented")).deployment_enabled()


def test_loading_and_canonical_bytes_agree() -> None:
    matrix = load_matrix(DEFAULT)
    assert CapabilityMatrix.from_json(matrix.to_json()) == matrix
    # JSON is YAML: what is signed can be read back by the same door.
    assert load_matrix(matrix.canonical().decode()) == matrix


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("look: true", "look: true\n  look: false", "stands twice"),
        ('limit: "10"', "limit: 10.5", "is a float"),
        ('limit: "10"', "limit: 1e3", "is a float"),
        ('limit: "10"', "limit: .inf", "is a float"),
        ('limit: "10"', "limit: 10", "must be text"),
        ("bake_s: 900", "bake_s: 0o14", "plain whole number"),
        ("bake_s: 900", "bake_s: 1_000", "plain whole number"),
        ("bake_s: 900", "bake_s: 09", "plain whole number"),
        ("bake_s: 900", "bake_s: -1", "plain whole number"),
        ("bake_s: 900", "bake_s: 99999999999999999999", "plain whole number"),
        ("bake_s: 900", 'bake_s: "900"', "must be a whole number"),
        ("bake_s: 900", "bake_s: 15:00", "must be a whole number"),
        ("look: true", "look: yes", "must be true or false"),
        ("look: true", "look: 1", "must be true or false"),
        ("look: true", "look:", "must be true or false"),
        ("retention_s: 604800", "retention_s: 2026-01-05", "timestamp"),
        ("tiers: [5, 25, 100]", "tiers: &t [5, 25, 100]", "anchors"),
        ("reviews: [sentinel, validator]", "reviews: *t", "anchors"),
        ("targets: {}", "targets: {<<: {web: {paths: [a]}}}", "merge"),
        ("bake_s: 900", "bake_s: !!int 900", "tags"),
        ("bake_s: 900", "bake_s: !!python/object:os.system 900", "tags"),
        ("targets: {}", "targets: {[a]: {}}", "key"),
        ("targets: {}", "targets: {web: {paths: [app.py], more: 1}}", "no such field"),
        ("skip_bake: false", "skip_bakes: false", "skip_bakes: there is no such field; skip_bake is missing"),
        ("bake_s: 900", "bake_s: 0", "deploy_production.bake_s: must be"),
        ("start: auto", "start: automatic", "deploy_production.start: must be auto or command"),
        ("hooks: {}", "hooks: {x: {argv: [a]}}", "missing"),
        ("hooks: {}", "hooks: " + "[" * 40, "deeper"),
        ("hooks: {}", "hooks: {", "not YAML"),
        ("hooks: {}", "\thooks: {}", "not YAML"),
    ],
)
def test_ambiguous_or_wrong_yaml_names_its_line(old: str, new: str, why: str) -> None:
    with pytest.raises(FormatError) as caught:
        load_matrix(changed(old, new))
    assert why in caught.value.message
    line = caught.value.fields["line"]
    assert isinstance(line, int)
    assert f"line {line}:" in caught.value.message
    if why not in {"missing", "not YAML"}:
        assert line_of(old) <= line <= line_of(old) + 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("tiers: [5, 25, 100]", "tiers: [5, 25]"),
        ("tiers: [5, 25, 100]", "tiers: [25, 5, 100]"),
        ('absolute: "70"', "absolute: null"),
        ("name: cpu", "name: TES"),
        ("reviews: [sentinel, validator]", "reviews: [sentinel, sentinel]"),
        ("targets: {}", "targets: {web: {paths: [/etc/passwd]}}"),
        ("targets: {}", "targets: {web: {paths: []}}"),
        ("version: 1", "version: true"),
        ("version: 1", "version: 2"),
    ],
)
def test_matrix_that_contradicts_itself(old: str, new: str) -> None:
    with refused("bad_policy"):
        load_matrix(changed(old, new))


@pytest.mark.parametrize(
    "text",
    ["", "# nothing", "- 1", "text", "{}", "a: 1\n---\nb: 2", "%YAML 1.1\n---\nversion: 1", "a: \x00", "? [a]\n: 1"],
)
def test_document_that_is_no_matrix(text: str) -> None:
    with refused("bad_policy"):
        load_matrix(text)


def test_document_over_the_limit_is_not_parsed() -> None:
    with refused("too_large"):
        load_matrix("#" * (MAX_CHARACTERS + 1))


def test_hint_says_how_a_decimal_is_written() -> None:
    with pytest.raises(FormatError) as caught:
        load_matrix(changed('limit: "10"', "limit: 0.5"))
    assert caught.value.hint == 'quote decimals: "0.5"'


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("app.py", True),
        ("static/", True),
        ("static/a", True),
        ("static/a/b/", True),
        ("static", False),
        ("statics/a", False),
        ("app.py/", False),
        ("app.pyc", False),
        ("x/app.py", False),
    ],
)
def test_path_rules_are_exact_or_prefixes_of_directories(path: str, allowed: bool) -> None:
    assert path_allowed(path, ("app.py", "static/")) is allowed


def test_unknown_notice_is_refused_with_its_line() -> None:
    text = default_matrix_text().replace("  notify: {}", "  notify:\n    all: [team]\n    HALTD: [oncall]")
    with pytest.raises(FormatError) as caught:
        load_matrix(text)
    line = text.splitlines().index("    HALTD: [oncall]") + 1
    assert caught.value.fields["line"] == line
    assert "deploy_production.notify.HALTD: there is no such notice" in caught.value.message


def test_known_notices_and_all_of_them_are_taken() -> None:
    text = default_matrix_text().replace("  notify: {}", "  notify:\n    all: [team]\n    HALTED: [oncall, team]")
    assert load_matrix(text).deploy_production.notify == {"all": ("team",), "HALTED": ("oncall", "team")}

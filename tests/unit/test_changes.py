"""Changes: what declared schedules mean for the stored ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from cronqueue.imports import Fault
from cronsched.changes import Changes, Stored, compare
from cronsched.definition import Definition
from cronsched.manifest import Manifest, SourceFile, make_manifest
from cronsched.triggers import Every

PLAIN = Definition(name="a", task="work", trigger=Every(60), source="a.py")
BROKEN = Fault("files/b.py", 3, "SyntaxError")


def manifest(made: Iterable[Definition] = (), *faults: Fault) -> Manifest:
    sources = [SourceFile(f"{stem}.py", f"files/{stem}.py", "") for stem in "abc"]
    return make_manifest(made, faults, sources)


def stored(*made: Definition, active: bool = True) -> dict[str, Stored]:
    return {
        each.name: Stored(each.name, each.source, each.fingerprint, each.timing_hash, active)
        for each in made
    }


def many(count: int, source: str = "a.py") -> list[Definition]:
    return [replace(PLAIN, name=f"many.{number:02}", source=source) for number in range(count)]


def kinds(changes: Changes) -> list[tuple[str, str]]:
    return [(change.kind, change.name) for change in changes.changes]


def test_new_changed_returning_and_removed_schedules_are_told_apart() -> None:
    b, c, d = (replace(PLAIN, name=name) for name in "bcd")
    before = stored(PLAIN, b, d) | stored(c, active=False)
    after = manifest([PLAIN, replace(b, priority=9), c, replace(PLAIN, name="e")])
    assert kinds(compare(after, before)) == [
        ("change", "b"),
        ("revive", "c"),
        ("remove", "d"),
        ("add", "e"),
    ]


def test_a_schedule_that_moved_to_another_file_changes_under_that_files_lock() -> None:
    moved = replace(PLAIN, source="c.py")
    (change,) = compare(manifest([moved]), stored(PLAIN)).changes
    assert (change.kind, change.source) == ("change", "c.py")


def test_a_new_name_is_one_added_and_one_removed() -> None:
    found = compare(manifest([replace(PLAIN, name="b")]), stored(PLAIN))
    assert kinds(found) == [("remove", "a"), ("add", "b")]


def test_a_file_with_a_fault_changes_nothing_of_its_own_and_removes_nothing_elsewhere() -> None:
    b = replace(PLAIN, name="b", source="b.py", priority=1)
    c = replace(PLAIN, name="c", source="c.py")
    found = compare(manifest([b, c], BROKEN), stored(PLAIN, replace(b, priority=0)))
    assert kinds(found) == [("add", "c")]
    assert found.kept == ("a",)
    assert found.kept_because == "a file has a fault: what it declares is not known"


def test_what_the_api_owns_is_neither_removed_nor_taken_over() -> None:
    api = replace(PLAIN, name="a", source="api")
    assert compare(manifest(), stored(api)) == Changes()
    found = compare(manifest([replace(PLAIN, line=7)]), stored(api))
    assert found.changes == ()
    assert [str(fault) for fault in found.refused] == [
        "files/a.py:7: schedule 'a' was made through the API, which goes on owning it:"
        " give this one another name="
    ]
    assert kinds(compare(manifest([PLAIN]), stored(api, active=False))) == [("revive", "a")]


def test_of_ten_and_more_half_must_stay() -> None:
    assert len(compare(manifest(many(5)), stored(*many(10))).changes) == 5
    refused = compare(manifest(many(4)), stored(*many(10)))
    assert (refused.changes, len(refused.kept)) == ((), 6)
    assert refused.kept_because == "6 of 10 schedules would go at once"
    assert len(compare(manifest(many(4)), stored(*many(10)), allow_removals=True).changes) == 6
    assert len(compare(manifest(many(1)), stored(*many(9))).changes) == 8


def test_files_that_declare_nothing_remove_at_most_one() -> None:
    assert kinds(compare(manifest(), stored(PLAIN))) == [("remove", "a")]
    assert compare(manifest(), stored(*many(2))).kept == ("many.00", "many.01")
    assert len(compare(manifest(), stored(*many(2)), allow_removals=True).changes) == 2


def test_an_empty_folder_is_noticed_although_modules_declare_schedules() -> None:
    module = replace(PLAIN, name="m", source="app.jobs")
    before = stored(*many(3), module)
    assert len(compare(manifest([module]), before).kept) == 3


def test_additions_and_changes_go_on_where_removals_are_refused() -> None:
    changed = replace(many(1)[0], priority=5)
    found = compare(manifest([changed, PLAIN]), stored(*many(12)))
    assert kinds(found) == [("change", "many.00"), ("add", "a")] or sorted(kinds(found)) == [
        ("add", "a"),
        ("change", "many.00"),
    ]
    assert len(found.kept) == 11

"""The audit log's chain, and what a publish must say of itself."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2cal_core.errors import ConfigurationError
from b2cal_core.payloads import AuditEntry, Release, broken_link, chained_hash

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
FORGERIES = {
    "id": 77,
    "when": NOON + timedelta(microseconds=1),
    "author": "mallory",
    "action": "drop",
    "tag": "other",
    "detail": '{"x":1}',
    "reason": "none",
    "approver": "mallory",
    "plan_hash": "0" * 64,
    "hash": "0" * 64,
}


def chained(count: int) -> list[AuditEntry]:
    """A log as it is written."""
    log: list[AuditEntry] = []
    for number in range(1, count + 1):
        blank = AuditEntry(number, NOON, "anna", action="apply", tag="online", detail="{}", reason="b", approver="c")
        log.append(replace(blank, hash=chained_hash(log[-1].hash if log else "", blank)))
    return log


@given(count=st.integers(0, 6))
def test_a_log_that_is_as_it_was_written_is_whole(count: int) -> None:
    assert broken_link(chained(count)) is None


@pytest.mark.parametrize("field", AuditEntry.__dataclass_fields__)
@given(count=st.integers(1, 5), data=st.data())
def test_a_line_that_was_changed_in_any_way_shows(field: str, count: int, data: st.DataObject) -> None:
    log = chained(count)
    place = data.draw(st.integers(0, count - 1))
    log[place] = replace(log[place], **{field: FORGERIES[field]})
    assert broken_link(log) == log[place]


@given(count=st.integers(2, 6), data=st.data())
def test_a_line_that_is_missing_or_in_another_place_shows_at_the_next(count: int, data: st.DataObject) -> None:
    log = chained(count)
    place = data.draw(st.integers(0, count - 2))
    assert broken_link([*log[:place], *log[place + 1 :]]) == log[place + 1]
    swapped = [*log[:place], log[place + 1], log[place], *log[place + 2 :]]
    assert broken_link(swapped) == log[place + 1]


def test_one_moment_in_another_zone_is_another_line() -> None:
    (line,) = chained(1)
    elsewhere = replace(line, when=NOON.astimezone(timezone(timedelta(hours=1))))
    assert elsewhere.when == line.when
    assert broken_link([elsewhere]) == elsewhere


def test_neighbouring_fields_cannot_be_mistaken_for_each_other() -> None:
    (line,) = chained(1)
    one, other = replace(line, author="ab", action="c"), replace(line, author="a", action="bc")
    assert chained_hash("", one) != chained_hash("", other)


@pytest.mark.parametrize(
    ("release", "missing"),
    [
        (Release("anna", "bert", "good"), ()),
        (Release("", "bert", "good"), ("author",)),
        (Release("anna", " \n", "good"), ("approver",)),
        (Release("", "", "\t"), ("author", "approver", "reason")),
    ],
)
def test_a_release_says_which_of_its_fields_are_blank(release: Release, missing: tuple[str, ...]) -> None:
    assert release.missing == missing
    if not missing:
        release.require_complete()
        return
    with pytest.raises(ConfigurationError, match=f"{', '.join(missing)} is missing. Nothing was changed"):
        release.require_complete()

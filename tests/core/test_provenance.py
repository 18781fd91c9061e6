"""Records of where payloads come from: what they hold, and when they are complete."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2cal_core.errors import ConfigurationError, DataError
from b2cal_core.provenance import Provenance, lacking, require_complete

COMPLETE = Provenance(
    code="release-09, caf_p.py 1a2b3c",
    inputs=("run1.root 900150983cd24fb0d6963f7d28e17f72",),
    runs=((7, 1), (7, 2)),
    tags=("online", "staging"),
    upstream=(("p", "0" * 32),),
    config={"minimum": 3, "nested": {"b": [1, 2], "a": None}},
    validation={"verdict": "pass", "resolution": 0.25},
)
KEY = ("p", "a" * 32)

NEEDED = [field for field in Provenance.model_fields if field != "outside"]
OUTSIDE = Provenance(outside="made outside by svd", inputs=("tag local_staging_svd",), validation={"verdict": "none"})

records = st.builds(
    Provenance,
    code=st.none() | st.text(),
    inputs=st.none() | st.lists(st.text(), max_size=2).map(tuple),
    runs=st.none() | st.lists(st.tuples(st.integers(), st.integers()), max_size=2).map(tuple),
    tags=st.none() | st.lists(st.text(), max_size=2).map(tuple),
    upstream=st.none() | st.lists(st.tuples(st.text(), st.text()), max_size=2).map(tuple),
    config=st.none() | st.dictionaries(st.text(), st.integers() | st.text() | st.booleans(), max_size=2),
    validation=st.none() | st.dictionaries(st.text(), st.none() | st.floats(allow_nan=False, allow_infinity=False)),
    outside=st.none() | st.text(),
)


def test_a_complete_record_lacks_nothing() -> None:
    assert COMPLETE.missing == ()


@pytest.mark.parametrize("field", NEEDED)
def test_a_record_lacks_each_field_that_is_not_known(field: str) -> None:
    assert COMPLETE.model_copy(update={field: None}).missing == (field,)


@pytest.mark.parametrize(("field", "empty"), [("code", ""), ("inputs", ()), ("runs", ()), ("validation", {})])
def test_what_every_payload_has_may_not_be_empty(field: str, empty: Any) -> None:
    assert COMPLETE.model_copy(update={field: empty}).missing == (field,)


@pytest.mark.parametrize(("field", "empty"), [("tags", ()), ("upstream", ()), ("config", {})])
def test_no_conditions_no_upstream_payloads_and_no_configuration_are_fine_when_known(field: str, empty: Any) -> None:
    assert COMPLETE.model_copy(update={field: empty}).missing == ()


def test_an_empty_record_lacks_everything() -> None:
    assert Provenance().missing == tuple(NEEDED)


def test_of_a_payload_made_outside_only_where_it_was_found_and_how_it_was_judged_is_asked() -> None:
    assert OUTSIDE.missing == ()
    assert OUTSIDE.model_copy(update={"inputs": (), "validation": None}).missing == ("inputs", "validation")


def test_records_of_what_the_platform_made_are_written_as_before_there_were_others() -> None:
    assert "outside" not in COMPLETE.to_json()
    assert '"outside":"made outside by svd"' in OUTSIDE.to_json()


@given(record=records)
def test_a_record_survives_being_written_and_read(record: Provenance) -> None:
    again = Provenance.from_json(record.to_json())
    assert again == record
    assert again.hash == record.hash
    assert "\n" not in record.to_json()


@given(one=records, other=records)
def test_the_hash_is_that_of_the_whole_record(one: Provenance, other: Provenance) -> None:
    assert (one.hash == other.hash) is (one.to_json() == other.to_json())


def test_the_order_of_keys_makes_no_difference() -> None:
    assert Provenance(config={"a": 1, "b": 2}).hash == Provenance(config={"b": 2, "a": 1}).hash
    assert Provenance(tags=("a", "b")).hash != Provenance(tags=("b", "a")).hash


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "as a whole"),
        ("[]", "as a whole"),
        (json.dumps({"codes": "x"}), "codes"),
        (json.dumps({"runs": [[1]]}), "runs"),
        (json.dumps({"upstream": "p"}), "upstream"),
    ],
)
def test_what_is_no_record_is_refused_with_the_field(text: str, named: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"no provenance record: .*{named}"):
        Provenance.from_json(text)


def test_a_payload_lacks_its_record_or_what_the_record_lacks() -> None:
    other = ("a", "b" * 32)
    assert lacking([KEY], {KEY: COMPLETE}) == ()
    assert lacking([], {}) == ()
    found = lacking([KEY, KEY, other], {KEY: COMPLETE.model_copy(update={"runs": None, "code": ""})})
    assert found == (
        f"a (MD5 {'b' * 32}) has no record",
        f"the record of p (MD5 {'a' * 32}) lacks code, runs",
    )


def test_payloads_with_complete_records_may_be_published_and_others_may_not() -> None:
    require_complete([KEY], {KEY: COMPLETE})
    with pytest.raises(DataError, match=r"complete provenance only: p \(MD5 a+\) has no record\. .*`b2cal cdb"):
        require_complete([KEY], {})

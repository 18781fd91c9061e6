"""Local calibrations: what a campaign may ask for, what is taken of a source tag, and what that lacks."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2cal_core.campaigns import Campaign
from b2cal_core.errors import ConfigurationError
from b2cal_core.impact import BASE, CDST, steps_of
from b2cal_core.local_calibrations import LocalSource, taken, uncovered
from b2cal_core.publishing import TagIov
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.settings import Catalogue
from b2cal_core.what_if import WhatIf, branch_of

REAL = Catalogue.from_json(json.loads((Path(__file__).parents[1] / "data" / "prompt_catalogue.json").read_text()))
SVD = {"tag": "local_staging_svd", "payloads": ["SVDNoise", "SVDPedestal"], "responsible": "sara"}
TOP = [{"tag": "local_staging_top", "payloads": ["TOPTimeBase"]}, {"tag": "user_top", "payloads": ["TOPMask"]}]
MINIMAL = {"name": "prompt", "catalogue": "r", "base_tags": ["main"], "target_tag": "running"}
BUCKET = "e0012r00001-e0012r00020"


def campaign(**sources: Any) -> Campaign:
    return Campaign.from_mapping(MINIMAL | {"local_calibrations": sources})


def test_a_subsystem_has_one_source_tag_or_a_list_of_them() -> None:
    made = campaign(svd=SVD, top=TOP)
    assert made.local_calibrations["svd"] == (LocalSource(**SVD),)
    assert [source.tag for source in made.local_calibrations["top"]] == ["local_staging_top", "user_top"]
    assert made.imported == {"local_svd": ("SVDNoise", "SVDPedestal"), "local_top": ("TOPTimeBase", "TOPMask")}
    assert Campaign.from_mapping(made.model_dump(mode="json")) == made
    assert Campaign.from_mapping(MINIMAL).imported == {}


@pytest.mark.parametrize(
    ("sources", "says"),
    [
        ({"svd": SVD, "vxd": SVD}, "taken from one tag, but SVDNoise, SVDPedestal is listed more than once"),
        ({"svd": SVD | {"payloads": ["A", "A"]}}, "A is listed more than once"),
        ({"svd": SVD | {"payloads": []}}, r"local_calibrations.svd.0.payloads"),
        ({"svd": []}, "subsystem svd has no source tag"),
        ({"SVD": SVD}, "a subsystem is named with lower case letters, digits and _, got 'SVD'"),
        ({"svd": SVD | {"tag": "a b"}}, "letters, digits"),
        ({"svd": SVD | {"from": "x"}}, "Extra inputs"),
        ({"svd": "local_staging_svd"}, "local_calibrations.svd"),
        ({"svd": SVD | {"tag": "running"}}, "running is a tag that this campaign writes"),
        ({"svd": SVD | {"tag": f"staging_prompt_{BUCKET}"}}, f"staging_prompt_{BUCKET} is a tag that this campaign"),
        ({"svd": SVD | {"tag": f"staging_prompt_{BUCKET}_in_0123ab"}}, "is a tag that this campaign writes"),
    ],
)
def test_local_calibrations_that_cannot_work_are_refused(sources: dict, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        campaign(**sources)


def test_other_tags_with_the_campaign_in_their_name_are_none_that_it_writes() -> None:
    assert not campaign().writes("staging_prompt_svd")
    assert not campaign().writes(f"staging_other_{BUCKET}")


def test_what_is_no_mapping_of_subsystems_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="local_calibrations"):
        Campaign.from_mapping(MINIMAL | {"local_calibrations": ["svd"]})


def test_a_mode_that_refuses_payloads_that_end_is_refused_beside_local_calibrations() -> None:
    with pytest.raises(ConfigurationError, match="update_mode strict refuses payloads that end"):
        Campaign.from_mapping(MINIMAL | {"update_mode": "strict", "local_calibrations": {"svd": SVD}})
    assert Campaign.from_mapping(MINIMAL | {"update_mode": "strict"}).update_mode == "strict"


def test_a_payload_that_a_calibration_of_the_campaign_makes_is_not_imported() -> None:
    both = campaign(cdc=SVD | {"payloads": ["SVDNoise", "CDCTimeZeros"]})
    with pytest.raises(ConfigurationError, match="CDCTimeZeros of cdc is made by calibration 'CDC Tracking'"):
        both.fitted_to(REAL)
    other = both.model_copy(update={"calibrations": ("caf_pxd",)})
    assert other.fitted_to(REAL).imported == both.imported


def test_a_branch_of_a_bucket_takes_what_the_bucket_had_whatever_source_tags_have_since() -> None:
    branch = branch_of(WhatIf(campaign="prompt", bucket=BUCKET, name="loose"), campaign(svd=SVD, top=TOP), REAL)
    assert branch.imported == campaign(svd=SVD, top=TOP).imported
    tags = {source.tag for sources in branch.local_calibrations.values() for source in sources}
    assert tags == {f"staging_prompt_{BUCKET}"}
    assert branch.local_calibrations["svd"][0].responsible == "sara"


def test_calibrations_and_cdst_production_read_what_is_imported() -> None:
    steps = steps_of(campaign(svd=SVD), REAL)
    assert steps["local_svd"] == ()
    assert {name for name, needs in steps.items() if "local_svd" not in needs} == {BASE, "local_svd"}
    assert "local_svd" in steps[CDST]


def test_of_a_source_tag_only_the_runs_of_the_bucket_and_the_payloads_asked_for_are_taken() -> None:
    links = [
        TagIov("N", 1, IoV(0, 0, -1, -1), id=7),
        TagIov("N", 2, IoV(12, 5, -1, -1)),
        TagIov("X", 1, IoV(0, 0, -1, -1)),
    ]
    assert taken(links, ["N", "P"], IoV(12, 1, 12, 20)) == (
        TagIov("N", 1, IoV(12, 1, 12, 4)),
        TagIov("N", 2, IoV(12, 5, 12, 20)),
    )


def test_payloads_that_do_not_cover_the_bucket_are_told_with_the_runs_that_they_lack() -> None:
    links = [TagIov("N", 1, IoV(12, 3, 12, 4)), TagIov("N", 2, IoV(12, 6, 12, 20)), TagIov("F", 1, IoV(12, 1, 12, 20))]
    found = uncovered(links, ["P", "N", "F"], IoV(12, 1, 12, 20))
    assert found == {"P": (IoV(12, 1, 12, 20),), "N": (IoV(12, 1, 12, 2), IoV(12, 5, 12, 5))}
    assert list(found) == ["P", "N"]


runs = st.integers(0, 30)
iovs = st.tuples(runs, runs).map(lambda pair: IoV(12, min(pair), 12, max(pair)))
tags = st.lists(st.builds(TagIov, st.sampled_from("NPX"), st.integers(1, 5), iovs), max_size=8)


@given(links=tags, within=iovs)
def test_every_run_has_the_highest_revision_that_its_source_tag_has_or_is_told_as_lacking(
    links: list[TagIov], within: IoV
) -> None:
    found = taken(links, ["N", "P"], within)
    gaps = uncovered(found, ["N", "P"], within)
    for name in ("N", "P"):
        for run in (ExpRun(12, number) for number in range(31)):
            there = [link.revision for link in links if link.name == name and link.iov.contains(run)]
            got = [link.revision for link in found if link.name == name and link.iov.contains(run)]
            inside = within.contains(run)
            assert got == ([max(there)] if there and inside else [])
            assert any(gap.contains(run) for gap in gaps.get(name, ())) == (inside and not there)

"""Decisions of people: what waits for them, and how a rejected result is done again."""

import json
from pathlib import Path
from typing import Any

import pytest
from failing_home import OPEN, FailingHome, prepare

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]


@pytest.fixture
def place(tmp_path: Path) -> FailingHome:
    """A home whose campaign leaves every decision to people."""
    prepared = prepare(tmp_path)
    gates = {"downstream": "verdict", "cdst": "sign_off", "publish": "sign_off", "auto_sign_off": "manual"}
    prepared.change_campaign(gates=gates)
    return prepared


def status(place: FailingHome) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(place.ok("bucket", "status", "prompt", OPEN, "--json").out)
    return answer


def decide(place: FailingHome, verb: str, calibration: str) -> None:
    place.ok("signoff", verb, "prompt", OPEN, calibration, "--reason", "looked at the plots", "--author", "mia")


def test_a_bucket_goes_on_decision_by_decision(place: FailingHome) -> None:
    before = place.target()
    waiting = place.work()
    assert waiting.code == 0
    assert "waits for its expert: b2cal signoff accept|reject prompt" in waiting.out
    assert status(place)["cdst"] is False

    decide(place, "reject", "caf_svd_time")
    rejected = place.work()
    assert "was rejected by mia (looked at the plots); redo it: b2cal bucket run" in rejected.out
    assert status(place)["cdst"] is False

    decide(place, "accept", "caf_svd_time")
    assert place.work().code == 0
    found = status(place)
    assert found["cdst"] is True
    assert [c["sign_off"] for c in found["calibrations"] if c["stage"] == "raw"] == ["accepted"]
    assert place.target() == before

    decide(place, "accept", "caf_top")
    assert place.work().code == 0
    assert status(place)["published"]
    assert place.target() != before
    log = json.loads(place.ok("signoff", "list", "prompt", OPEN, "--json").out)
    decisions = [(d["calibration"], d["decision"], d["author"]) for d in log]
    assert decisions == [
        ("caf_svd_time", "rejected", "mia"),
        ("caf_svd_time", "accepted", "mia"),
        ("TOP common T0", "accepted", "mia"),
    ]


def test_a_rejected_calibration_is_made_again_when_asked_for(place: FailingHome) -> None:
    place.work()
    decide(place, "reject", "caf_svd_time")
    place.change_campaign(expert_config={"caf_svd_time": {"min_hits": 5}})
    again = place.work("--only", "caf_svd_time", "--json")
    assert again.code == 0, again.err
    (outcome,) = json.loads(again.out)
    assert "prompt/caf_svd_time/payloads" in outcome["done"]
    assert not [asset for asset in outcome["done"] if "top" in asset]

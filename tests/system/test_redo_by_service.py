"""A rejected result is made again by the service as the rejection asks for, and the page says what waits for whom."""

import json
from pathlib import Path
from typing import Any

import pytest
from failing_home import OPEN, FailingHome, prepare
from service_home import Service, running_service

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]
PATIENCE = 240.0
_OBSERVED = """query($key: AssetKeyInput!, $bucket: String!) {assetOrError(assetKey: $key) {... on Asset {
  assetObservations(partitions: [$bucket], limit: 1) {metadataEntries {
    label ... on TextMetadataEntry {text} ... on MarkdownMetadataEntry {mdStr}}}}}}"""


@pytest.fixture
def place(tmp_path: Path) -> FailingHome:
    """A home whose campaign leaves decisions to people, and redos to the service."""
    prepared = prepare(tmp_path)
    gates = {"auto_sign_off": "manual", "redo": "always", "redo_downstream": "always"}
    prepared.change_campaign(gates=gates)
    prepared.work()
    return prepared


def state(place: FailingHome, part: str) -> str:
    cells = json.loads(place.ok("bucket", "why", "prompt", OPEN, "caf_svd_time", "--json").out)["cells"]
    return str(next(cell["state"] for cell in cells if cell["asset"].endswith(part)))


def shown(service: Service, asset: str) -> dict[str, Any]:
    """What was last observed of the asset for the bucket."""
    found = service.ask(_OBSERVED, key={"path": asset.split("/")}, bucket=OPEN)["assetOrError"]
    entries = found["assetObservations"][0]["metadataEntries"] if found.get("assetObservations") else []
    return {entry["label"]: entry.get("text", entry.get("mdStr")) for entry in entries}


def test_the_service_does_what_a_rejection_asks_for(place: FailingHome) -> None:
    asked = ("--redo-with", '{"min_hits": 1}', "--exclude-run", "12:5")
    place.ok("signoff", "reject", "prompt", OPEN, "caf_svd_time", "--reason", "off", "--author", "mia", *asked)
    assert state(place, "payloads") == "stale"
    with running_service(place.home) as service:
        service.wait_until("the redo", lambda: state(place, "sign_off") == "blocked", seconds=PATIENCE)
        sign_off = "prompt/caf_svd_time/sign_off"
        service.wait_until("the page", lambda: "what to do" in shown(service, sign_off), seconds=PATIENCE)
        told = shown(service, sign_off)
    assert "waits for its expert" in told["waits for"]
    assert told["what to do"].startswith(f"b2cal signoff accept|reject prompt {OPEN} caf_svd_time")
    assert state(place, "payloads") == "made"
    staged = json.loads(place.ok("cdb", "provenance", f"staging_prompt_{OPEN}", "--json").out)
    made = [one["record"] for one in staged if one["name"] == "SVDTimeCalibrations"]
    assert {record["config"]["min_hits"] for record in made} == {1}
    assert {tuple(run) for record in made for run in record["runs"]} == {(12, 4)}  # the third run is not good

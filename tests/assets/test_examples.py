"""Every file of ``examples/`` is a campaign that fits the reference release."""

import json
from pathlib import Path

import pytest
import yaml

from b2cal_core.campaigns import Campaign
from b2cal_core.settings import Catalogue

ROOT = Path(__file__).parents[2]
REFERENCE = Catalogue.from_json(json.loads((ROOT / "b2cal_detector" / "catalogue.json").read_text()))


@pytest.mark.parametrize("file", sorted((ROOT / "examples").iterdir()), ids=lambda file: file.name)
def test_an_example_fits_the_reference_release(file: Path) -> None:
    campaign = Campaign.from_mapping(yaml.safe_load(file.read_text()), str(file))
    assert campaign.name == file.stem
    assert campaign.fitted_to(REFERENCE).calibrations_of(REFERENCE)

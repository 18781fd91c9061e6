"""The reference release: where its scripts, its catalogue and its prompt campaign lie.

``python -m b2cal_detector.release`` writes the catalogue anew from the scripts.
"""

import json
from pathlib import Path

from b2cal_caf.atomic_files import write_json
from b2cal_caf.scripts import read_catalogue
from b2cal_core.settings import Catalogue

NAME = "reference"
_HERE = Path(__file__).parent
SCRIPTS = _HERE / "scripts"
CATALOGUE = _HERE / "catalogue.json"
CAMPAIGN = _HERE / "campaign.yaml"
RECONSTRUCTION = "b2cal_detector.reconstruct_job"
"""The module of the cDST jobs."""


def catalogue() -> Catalogue:
    """The catalogue as it is kept beside the scripts; quicker than importing them all."""
    return Catalogue.from_json(json.loads(CATALOGUE.read_bytes()))


def write_catalogue() -> None:
    """Bring the kept catalogue in step with the scripts."""
    write_json(CATALOGUE, read_catalogue(SCRIPTS).to_json())


if __name__ == "__main__":
    write_catalogue()

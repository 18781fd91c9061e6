"""A home with one bucket of a campaign of three calibrations, in whose record a test writes what was made."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from cli_answers import CommandLine

from b2cal_assets.asset_keys import Part, calibration_key, published_key
from b2cal_assets.bucket_records import CONTENT, EVIDENCE, FAILED_FIGURES, NAMES, VERDICT
from b2cal_assets.bucket_runs import quiet_instance
from resources.home import Home

BUCKET = "e0012r00001-e0012r00002"
_SCRIPT = """
from b2cal_core.settings import CalibrationSettings
settings = CalibrationSettings(name="{name}", expert_username="{name}-expert".lower(), input_data_formats={{"raw"}},
                               input_data_names={{"hadron_calib"}}, depends_on={needs},
                               expert_config={{"minimum": 10, "payload_boundaries": []}})
def get_calibrations(input_data, **kwargs):
    return []
"""
_CAMPAIGN = """
name: prompt
catalogue: r1
base_tags: [main]
target_tag: data_prompt
owner: mia
"""


class JudgedBucket:
    """What a test says was made is in Dagster's record, as the platform's steps leave it there."""

    def __init__(self, b2cal: CommandLine, home: Home, directory: Path, campaign: str = "") -> None:
        self._b2cal, self._home = b2cal, home
        scripts = directory / "scripts"
        scripts.mkdir()
        for name, needs in {"A": (), "B": ("A",), "C": ("B",)}.items():
            (scripts / f"caf_{name.lower()}.py").write_text(_SCRIPT.format(name=name, needs=needs))
        b2cal.ok("catalogue", "import", scripts, "--release", "r1")
        self._file = directory / "prompt.yaml"
        self._file.write_text(_CAMPAIGN + campaign)
        b2cal.ok("cdb", "create", "main")
        b2cal.ok("campaign", "create", self._file)
        for run in (1, 2):
            days = ("--started", "2026-01-01", "--ended", "2026-01-02")
            b2cal.ok("runs", "register", 12, run, *days, "--quality", "Good")
        b2cal.ok("bucket", "close", "prompt")

    def made(self, calibration: str, content: str, verdict: str | None = None, failed: Sequence[str] = ()) -> None:
        """Payloads with this content, collected and, with a verdict, validated."""
        self._report(calibration, Part.collector_output, {})
        self._report(calibration, Part.payloads, {CONTENT: content, NAMES: [f"{calibration}Constants"]})
        if verdict is not None:
            judged = {VERDICT: verdict, EVIDENCE: content, FAILED_FIGURES: list(failed)}
            self._report(calibration, Part.validation, judged)

    def published(self) -> None:
        """The bucket, as it is."""
        self._made(published_key("prompt"), {})

    def _report(self, calibration: str, part: Part, metadata: Mapping[str, Any]) -> None:
        self._made(calibration_key("prompt", calibration, part), metadata)

    def _made(self, key: dg.AssetKey, metadata: Mapping[str, Any]) -> None:
        with quiet_instance(self._home.dagster_home) as instance:
            event = dg.AssetMaterialization(key, partition=BUCKET, metadata=metadata)
            instance.report_runless_asset_event(event)

    def cells(self, *calibration: str) -> dict[str, dict[str, Any]]:
        """What ``b2cal bucket why`` says of each asset."""
        answer = self._b2cal.ok("bucket", "why", "prompt", BUCKET, *calibration, "--json").json
        return {cell["asset"]: cell for cell in answer["cells"]}

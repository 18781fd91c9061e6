"""A bucket of the reference detector is branched with another setting, compared, and redone with what was kept."""

import json
from pathlib import Path
from typing import Any

import pytest
from service_home import prepare_home

from b2cal_cli.main import main

KEY = "e0012r00001-e0012r00003"
CALIBRATIONS = ("caf_svd_time", "TOP common T0")
NAME = ("--name", "narrow")


@pytest.fixture
def b2cal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """The command line on a home with three runs that wait for a bucket."""
    home = prepare_home(tmp_path / "home", runs=3, bucket_runs=3)

    def call(*args: str) -> Any:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*args, "--json", "--home", str(home.path)])
        captured = capsys.readouterr()
        assert not ended.value.code, captured.err
        return json.loads(captured.out)

    return call


@pytest.mark.system
@pytest.mark.timeout(900)
def test_what_a_branch_promised_is_what_the_bucket_gets_when_it_is_kept(b2cal: Any) -> None:
    b2cal("bucket", "close", "prompt")
    only = [word for name in (*CALIBRATIONS, "cdst") for word in ("--only", name)]
    b2cal("bucket", "run", "prompt", KEY, *only)
    setting = f"{CALIBRATIONS[1]}:window=1.2"
    found = b2cal("bucket", "what-if", "prompt", KEY, *NAME, "--expert-config", setting)
    assert {line["payload"] for line in found["constants"]} == {"TOPCalCommonT0"}
    stated = {line["column"]: line["errors"] is not None for line in found["constants"] if line["difference"]}
    assert stated == {"t0": True, "width": False}  # no error is stated for the width
    assert found["unchanged"] > 0  # the times of the SVD, which do not depend on the setting
    assert {line["calibration"] for line in found["figures"]} == set(CALIBRATIONS)
    assert Path(found["page"]).read_text().count("data:image/png;base64,") >= 4
    kept = b2cal("bucket", "keep", "prompt", KEY, *NAME, "--reason", "less background")
    assert kept["to_be_redone"] == [CALIBRATIONS[1]]
    assert b2cal("campaign", "show", "prompt")["expert_config"] == {CALIBRATIONS[1]: {"window": 1.2}}
    (done,) = b2cal("bucket", "run", "prompt", KEY, "--only", CALIBRATIONS[1])
    assert done["failed"] == {}
    after = b2cal("bucket", "compare", "prompt", KEY, *NAME)
    assert after["constants"] == []

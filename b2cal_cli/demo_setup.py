"""What the demo needs before the first bucket: a base tag, a catalogue and a campaign. Every step may be repeated."""

from pathlib import Path
from typing import Any

import yaml

import b2cal_detector
from b2cal_caf.scripts import read_catalogue
from b2cal_core.campaigns import Campaign
from b2cal_core.errors import ConfigurationError
from b2cal_core.payloads import TagState
from b2cal_core.ports import ConditionsDB
from b2cal_detector.nominal import write_nominal
from resources.campaigns.files import FileCampaignStore, parse_campaign
from resources.home import Home

_ROOM = Path(b2cal_detector.__file__).parent
SCRIPTS = _ROOM / "scripts"
CAMPAIGN_FILE = _ROOM / "campaign.yaml"
_WAY_TO_PUBLISHED = (TagState.OPEN, TagState.TESTING, TagState.VALIDATED, TagState.PUBLISHED)


def publish_nominal(conditions: ConditionsDB, home: Home, tag: str) -> bool:
    """Bring the detector's design constants into a PUBLISHED tag; returns whether there was anything to do."""
    found = conditions.get_tag(tag) or conditions.create_tag(tag, "design constants of the reference detector")
    if found.state is TagState.PUBLISHED:
        return False
    if found.state is TagState.OPEN:
        payloads = write_nominal(home.work_dir / "nominal").entries()
        conditions.replace_iovs(tag, {payload.name for payload in payloads}, payloads)
    if found.state not in _WAY_TO_PUBLISHED:
        raise ConfigurationError(
            f"the demo needs tag {tag} with design constants, but it is {found.state}; use another --home"
        )
    start = _WAY_TO_PUBLISHED.index(found.state)
    for state, following in zip(_WAY_TO_PUBLISHED[start:], _WAY_TO_PUBLISHED[start + 1 :], strict=False):
        conditions.set_state(tag, expected=state, new=following)
    return True


def prepare_campaign(store: FileCampaignStore, *, bucket_runs: int | None, batch: str | None) -> Campaign:
    """The demo's campaign; kept with its catalogue unless the home has one of the name, whose changes then stand.

    Args:
        store: of the home.
        bucket_runs: counted runs in a bucket, for a campaign that is not there yet.
        batch: the batch system, which may be another each time: where jobs run changes no result.

    Raises:
        ConfigurationError: the home's campaign fills buckets with another number of runs, or there is no such batch
            system.
    """
    text = CAMPAIGN_FILE.read_text(encoding="utf-8")
    shipped = parse_campaign(text, str(CAMPAIGN_FILE))
    store.save_catalogue(shipped.catalogue, read_catalogue(SCRIPTS), scripts=SCRIPTS)
    if shipped.name not in store.names():
        return store.save_campaign(_adapted(text, bucket_runs, batch))
    campaign = store.campaign(shipped.name)
    if bucket_runs not in {None, campaign.buckets.runs}:
        raise ConfigurationError(
            f"campaign {campaign.name} of this home fills a bucket with {campaign.buckets.runs} runs, "
            f"not {bucket_runs}; use another home directory (--home)"
        )
    if batch not in {None, campaign.site.batch}:
        return store.save_campaign(_adapted(store.campaign_text(campaign.name), None, batch))
    return campaign


def _adapted(text: str, runs: int | None, batch: str | None) -> str:
    """The campaign file with another bucket size or batch system; as it is when neither is asked for."""
    if runs is None and batch is None:
        return text
    mapping: dict[str, Any] = yaml.safe_load(text)
    if runs is not None:
        policy = {key: value for key, value in mapping.get("buckets", {}).items() if key not in {"events", "hours"}}
        mapping["buckets"] = {**policy, "runs": runs}
    if batch is not None:
        mapping["site"] = {**mapping.get("site", {}), "batch": batch}
    return yaml.safe_dump(mapping, sort_keys=False, allow_unicode=True)

"""Keeping a branch: its settings become the campaign's, and the bucket is to be redone with them. Slow to import."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import yaml

from b2cal_assets.asset_keys import published_key
from b2cal_cli.deciding import decide
from b2cal_cli.decision_terms import Said
from b2cal_cli.ledgers import ledger_of
from b2cal_cli.what_if_branching import archive_branch
from b2cal_core.buckets import Bucket
from b2cal_core.errors import ConfigurationError
from b2cal_core.redo import Redo
from b2cal_core.settings import Catalogue
from b2cal_core.verdicts import Decision
from b2cal_core.what_if import WhatIf
from resources.campaigns.files import FileCampaignStore
from resources.home import Home

_BLOCK = re.compile(r"^expert_config:.*\n?(?:[ \t#}\]].*\n?|\n)*", re.MULTILINE)
"""The key with all lines that belong to it: indented ones, comments and brackets that are closed."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What keeping a branch led to; ``by_hand`` are sentences about what is left to people."""

    branch: str
    to_be_redone: tuple[str, ...]
    by_hand: tuple[str, ...]
    staging_tag: str

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return asdict(self)


def keep_branch(home: Home, change: WhatIf, *, reason: str, author: str) -> Kept:
    """Write the branch's expert_config into the campaign, reject what it replaces in the bucket, and archive it.

    Raises:
        ConfigurationError: the campaign's file cannot be changed without a person; nothing was changed.
        RightsError: the author may not decide over the bucket's results.
    """
    store = FileCampaignStore(home)
    text = _new_text(store, change)
    is_published = _is_published(home, change)
    said = f"what if {change.name} is kept: {reason}"
    redone = () if is_published else _reject(home, change, reason=said, author=author)
    if text is not None:
        store.save_campaign(text, author=author)
    tag = archive_branch(home, change, reason=f"kept: {reason}", author=author)
    return Kept(change.branch, redone, tuple(_by_hand(change, is_published=is_published)), tag)


def _new_text(store: FileCampaignStore, change: WhatIf) -> str | None:
    """The campaign's file with the branch's settings, checked; ``None`` when they are none."""
    if not change.expert_config:
        return None
    catalogue = store.catalogue(store.campaign(change.campaign).catalogue)
    text = with_expert_config(store.campaign_text(change.campaign), change.expert_config, catalogue)
    store.check_campaign(text)
    return text


def with_expert_config(text: str, config: Mapping[str, Mapping[str, Any]], catalogue: Catalogue) -> str:
    """A campaign's YAML text with these keys of expert_config; all else, comments too, stays as it was written.

    Raises:
        ConfigurationError: the text is written in a way that only a person can change.
    """
    before = yaml.safe_load(text)
    merged = {name: dict(keys) for name, keys in (before.get("expert_config") or {}).items()}
    written = {catalogue.find(name): name for name in merged}
    for name, keys in config.items():
        merged.setdefault(written.get(name, name), {}).update(keys)
    block = yaml.safe_dump({"expert_config": merged}, sort_keys=False, allow_unicode=True)
    without, found = _BLOCK.subn(lambda _found: block, text, count=1)
    changed = without if found else f"{text.rstrip()}\n{block}"
    if _read(changed) != {**before, "expert_config": merged}:
        raise ConfigurationError(
            f"the campaign's file cannot be changed safely; set its expert_config to {json.dumps(merged)} yourself, and"
            " drop the branch. Nothing was changed"
        )
    return changed


def _read(text: str) -> Any:  # noqa: ANN401 (whatever YAML can hold)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def _is_published(home: Home, change: WhatIf) -> bool:
    with ledger_of(home, change.campaign, Bucket.from_key(change.bucket)) as opened:
        return opened.ledger.has(published_key(change.campaign))


def _reject(home: Home, change: WhatIf, *, reason: str, author: str) -> tuple[str, ...]:
    """Reject what is made otherwise in the branch, saying how, and return the calibrations."""
    bucket = Bucket.from_key(change.bucket)
    store = FileCampaignStore(home)
    branch = store.campaign(change.branch)
    redone = []
    for name in branch.calibrations_of(store.catalogue(branch.catalogue)):
        redo = Redo(expert_config=change.expert_config.get(name, {}), excluded_runs=change.excluded_runs)
        if not redo.is_empty:
            decide(home, (change.campaign, bucket, name), Decision.rejected, Said(reason, author, redo=redo))
            redone.append(name)
    return tuple(redone)


def _by_hand(change: WhatIf, *, is_published: bool) -> list[str]:
    told = []
    if change.release is not None:
        told.append(
            f"set catalogue: {change.release} in the file of campaign {change.campaign}, then b2cal campaign create"
        )
    if is_published:
        told.append(
            f"bucket {change.bucket} is published, and a running tag is never changed backwards: the settings count for"
            " later buckets; bring other constants for these runs into another target tag, by a campaign of its own"
        )
    return told

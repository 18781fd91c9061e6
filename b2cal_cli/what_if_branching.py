"""Making, working and ending the branch of a bucket. Importing this is slow.

What a branch is lies in ``what_if/<branch>.json`` of the home; its campaign is paused, so that no sensor works it.
"""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import yaml

from b2cal_assets.bucket_runs import BucketOutcome
from b2cal_caf.atomic_files import write_atomically
from b2cal_cli.bucket_working import work_buckets
from b2cal_cli.cdb_answers import edges_text
from b2cal_cli.ledgers import OpenLedger, ledger_of
from b2cal_cli.session import WrongUsage
from b2cal_core.buckets import Bucket
from b2cal_core.campaign_states import CampaignChange, CampaignState
from b2cal_core.campaigns import Campaign
from b2cal_core.ranges import IoV, IoVSet
from b2cal_core.verdicts import Decision, SignOff
from b2cal_core.what_if import WhatIf, branch_of
from resources.campaigns.files import FileCampaignStore
from resources.deployment import registry_address
from resources.home import Home
from resources.runs.embedded import EmbeddedRunRegistry
from resources.signoff.embedded import EmbeddedSignOffLog

_BEFORE_IT_WAS_MADE = "nothing was made yet"
"""What an instruction for a branch is over: no payloads, so that it judges none."""


def directory_of(home: Home, branch: str) -> Path:
    """Where what concerns a branch lies, besides its work."""
    return home.path / "what_if" / branch


def read_branch(home: Home, branch: str) -> WhatIf | None:
    """What the branch is; ``None`` when there is none of that name."""
    with suppress(FileNotFoundError):
        return WhatIf.checked(**yaml.safe_load((directory_of(home, branch) / "branch.json").read_text()))
    return None


def make_branch(home: Home, change: WhatIf, *, author: str) -> Campaign:
    """Make the branch's campaign with its bucket; the same branch again is harmless.

    Raises:
        WrongUsage: the bucket is not calibrated yet or has not the runs that are left out, or the name is taken by
            something else or was used before.
        ConfigurationError: the settings do not fit the scripts.
    """
    store = FileCampaignStore(home)
    campaign = store.campaign(change.campaign)
    branch = branch_of(change, campaign, store.catalogue(change.release or campaign.catalogue))
    text = yaml.safe_dump(branch.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    _refuse_taken(home, store, change)
    store.check_campaign(text, f"branch {change.branch}")
    bucket = Bucket.from_key(change.bucket)
    _refuse_strange_runs(home, change, bucket)
    with ledger_of(home, change.campaign, bucket) as original:
        _refuse_unfinished(original, branch)
        instructions = _instructions(original, change, branch, author)
    write_atomically(directory_of(home, change.branch) / "branch.json", change.model_dump_json(indent=1).encode())
    store.save_campaign(text, author=author)
    if store.states()[branch.name] is CampaignState.active:
        _change_state(store, change, CampaignState.paused, f"what if, beside {change.campaign}", author=author)
    log = EmbeddedSignOffLog(registry_address(home))
    told = {decision.calibration for decision in log.decisions(branch.name)}
    for instruction in instructions:
        if instruction.calibration not in told:
            log.record(instruction)
    store.add_bucket(branch.name, bucket, closed_by=author)
    return branch


def work_branch(home: Home, change: WhatIf) -> BucketOutcome:
    """Make what the branch lacks, in this process, as far as its gates allow; nothing is published."""
    store = FileCampaignStore(home)
    branch = store.campaign(change.branch)
    catalogue = store.catalogue(branch.catalogue)
    calibrations = branch.calibrations_of(catalogue)
    steps = [*branch.imported, *calibrations]
    if any(catalogue[name].stage == "cdst" for name in calibrations):
        steps.append("cdst")
    ((_, outcome),) = work_buckets(home, change.branch, [Bucket.from_key(change.bucket)], only=steps)
    return outcome


def archive_branch(home: Home, change: WhatIf, *, reason: str, author: str) -> str:
    """End the branch, and return the name of its staging tag, which stays."""
    store = FileCampaignStore(home)
    _change_state(store, change, CampaignState.archived, reason, author=author)
    return store.campaign(change.branch).staging_tag_of(Bucket.from_key(change.bucket))


def _change_state(store: FileCampaignStore, change: WhatIf, state: CampaignState, reason: str, *, author: str) -> None:
    store.change_state(CampaignChange(change.branch, state, author, reason, datetime.now(UTC)))


def _refuse_taken(home: Home, store: FileCampaignStore, change: WhatIf) -> None:
    before, state = read_branch(home, change.branch), store.states().get(change.branch)
    if before is None and state is not None:
        raise WrongUsage(f"there is a campaign {change.branch} that is no branch; choose another --name")
    if before is not None and before != change:
        raise WrongUsage(
            f"branch {change.name} of {before.bucket} was made with other settings; choose another --name, or compare"
            f" that one: b2cal bucket compare {change.campaign} {before.bucket} --name {change.name}"
        )
    if state is CampaignState.archived:
        raise WrongUsage(f"branch {change.name} was kept or dropped; choose another --name")


def _refuse_unfinished(original: OpenLedger, branch: Campaign) -> None:
    lacking = [name for name in original.plan.calibrations if original.ledger.payloads(name) is None]
    made_aside = branch.calibrations or ()
    if missing := [name for name in lacking if name in made_aside]:
        place = f"{original.plan.name} {original.bucket.key}"
        raise WrongUsage(
            f"there is nothing to compare with: {', '.join(missing)} has no payloads in {original.bucket.key}; make"
            f" them first: b2cal bucket run {place}"
        )


def _refuse_strange_runs(home: Home, change: WhatIf, bucket: Bucket) -> None:
    known = {record.run.edge for record in EmbeddedRunRegistry(registry_address(home)).runs(bucket.iov)}
    if strangers := [f"{exp}:{run}" for exp, run in change.excluded_runs if (exp, run) not in known]:
        joined = IoVSet(IoV(*run, *run) for run in known).iovs
        ranges = ", ".join(" to ".join(edges_text(iov)) for iov in joined) or "none"
        raise WrongUsage(f"bucket {bucket.key} has no run {', '.join(strangers)} to leave out; its runs are {ranges}")


def _instructions(original: OpenLedger, change: WhatIf, branch: Campaign, author: str) -> list[SignOff]:
    """What the branch's calibrations are told from the start, in the way a rejection tells it."""
    now, reason = datetime.now(UTC), f"what if, beside {change.campaign}"
    subject = (change.branch, change.bucket)
    told = {name: change.instruction(name, original.ledger.redo(name)) for name in branch.calibrations or ()}
    return [
        SignOff(*subject, name, Decision.rejected, author, reason, _BEFORE_IT_WAS_MADE, now, redo=redo)
        for name, redo in told.items()
        if not redo.is_empty
    ]

"""``b2cal bucket what-if``: a bucket with other settings, worked aside, compared, and kept or dropped."""

import getpass
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from b2cal_cli.bucket import BucketKey, CampaignName, bucket_of
from b2cal_cli.campaign import campaign_of, store_of
from b2cal_cli.cdb_answers import edges_text
from b2cal_cli.decision_terms import run_of
from b2cal_cli.output import AsJson, print_json, print_table, say
from b2cal_cli.session import WrongUsage, arguments, home_of
from b2cal_core.errors import CalibrationError

if TYPE_CHECKING:
    from b2cal_cli.what_if_comparing import Comparison
    from b2cal_core.what_if import ConstantChange, WhatIf

BranchName = Annotated[str, typer.Option("--name", help="Name of the branch: lower case, digits and _.")]
Author = Annotated[str | None, typer.Option(help="Who decides; by default you.")]
Reason = Annotated[str, typer.Option(help="Why; it is logged.")]
_SHOWN = 40
"""Constants in a table for people."""


def register(app: typer.Typer) -> None:
    """Make these commands of ``b2cal bucket``."""
    app.command(name="what-if")(what_if)
    app.command()(compare)
    app.command()(keep)
    app.command()(drop)


def what_if(
    ctx: typer.Context,
    campaign: CampaignName,
    bucket: BucketKey,
    name: BranchName,
    expert_config: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CALIBRATION:KEY=VALUE",
            help="A key of expert_config that is different, its value as JSON; repeat it.",
        ),
    ] = None,
    release: Annotated[str | None, typer.Option(help="Use the scripts of this release; see b2cal catalogue.")] = None,
    exclude_run: Annotated[
        list[str] | None, typer.Option(metavar="EXP:RUN", help="A run whose data is left out; repeat it.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="CALIBRATION", help="Make only this and what it builds upon; repeat it."),
    ] = None,
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Branch a finished bucket with other settings, work it in this process, and compare; the original stays."""
    from b2cal_cli.what_if_branching import make_branch, work_branch

    chosen = bucket_of(ctx, campaign, bucket)
    config = _config(ctx, campaign, release, expert_config or ())
    excluded = tuple(run_of(word) for word in exclude_run or ())
    if not (config or release or excluded):
        raise WrongUsage("say what is different in the branch: --expert-config, --release or --exclude-run")
    home = home_of(ctx)
    with arguments():
        from b2cal_core.what_if import WhatIf

        change = WhatIf.checked(
            campaign=campaign,
            bucket=chosen.key,
            name=name,
            expert_config=config,
            release=release,
            excluded_runs=excluded,
            only=tuple(only or ()),
        )
        make_branch(home, change, author=author or getpass.getuser())
    outcome = work_branch(home, change)
    if outcome.failed:
        sentences = "\n".join(f"  - {why}" for why in outcome.failed.values())
        again = "the same command goes on when the cause is mended"
        other = f"b2cal bucket drop {campaign} {change.bucket} --name {name} --reason …"
        raise CalibrationError(
            f"work failed in branch {change.branch}; {again}. If it is a setting of the branch, drop it and choose"
            f" another name: {other}\n{sentences}"
        )
    for reason in dict.fromkeys(reason for reasons in outcome.blocked.values() for reason in reasons):
        say(f"  - {reason}")
    _compare(ctx, change, as_json=as_json)


def _config(ctx: typer.Context, campaign: str, release: str | None, words: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Calibration name to the keys that are different."""
    with arguments():
        catalogue = store_of(ctx).catalogue(release or campaign_of(ctx, campaign).catalogue)
        found: dict[str, dict[str, Any]] = {}
        for text in words:
            word, _, setting = text.partition(":")
            key, equals, value = setting.partition("=")
            if not (word and key and equals):
                raise WrongUsage(f"--expert-config takes CALIBRATION:KEY=VALUE, got {text!r}")
            found.setdefault(catalogue.find(word), {})[key] = _value(value)
    return found


def _value(text: str) -> Any:  # noqa: ANN401 (whatever JSON can hold)
    try:
        return json.loads(text)
    except ValueError:
        return text


def compare(
    ctx: typer.Context, campaign: CampaignName, bucket: BucketKey, name: BranchName, as_json: AsJson = False
) -> None:
    """Compare the constants, figures of merit and plots of a branch with those of the bucket it was made of."""
    _compare(ctx, _branch(ctx, campaign, bucket, name), as_json=as_json)


def keep(
    ctx: typer.Context,
    campaign: CampaignName,
    bucket: BucketKey,
    name: BranchName,
    reason: Reason,
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Write a branch's settings into the campaign, have the bucket redone with them, and archive the branch."""
    from b2cal_cli.what_if_keeping import keep_branch

    change = _branch(ctx, campaign, bucket, name)
    with arguments():
        kept = keep_branch(home_of(ctx), change, reason=reason, author=author or getpass.getuser())
    if as_json:
        print_json(kept.to_json())
        return
    if change.expert_config:
        say(f"expert_config of campaign {campaign} is as in the branch now")
    if kept.to_be_redone:
        say(f"to be redone: {', '.join(kept.to_be_redone)}; do it: b2cal bucket run {campaign} {change.bucket}")
    for sentence in kept.by_hand:
        say(f"  - {sentence}")
    say(f"branch {change.branch} is archived; its tags stay: {kept.staging_tag}")


def drop(
    ctx: typer.Context,
    campaign: CampaignName,
    bucket: BucketKey,
    name: BranchName,
    reason: Reason,
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Archive a branch; nothing of the original changes, and what the branch made stays in its own tag."""
    from b2cal_cli.what_if_branching import archive_branch

    change = _branch(ctx, campaign, bucket, name)
    tag = archive_branch(home_of(ctx), change, reason=f"dropped: {reason}", author=author or getpass.getuser())
    if as_json:
        print_json({"branch": change.branch, "state": "archived", "staging_tag": tag})
    else:
        say(f"branch {change.branch} is archived; its tag stays: {tag}")


def _branch(ctx: typer.Context, campaign: str, bucket: str, name: str) -> "WhatIf":
    from b2cal_cli.what_if_branching import read_branch

    chosen = bucket_of(ctx, campaign, bucket)
    change = read_branch(home_of(ctx), f"{campaign}_{name}")
    if change is None or change.bucket != chosen.key:
        raise WrongUsage(
            f"bucket {chosen.key} of campaign {campaign} has no branch {name!r}; make one: b2cal bucket what-if"
            f" {campaign} {chosen.key} --name {name}, and what is different"
        )
    return change


def _compare(ctx: typer.Context, change: "WhatIf", *, as_json: bool) -> None:
    from b2cal_cli.what_if_comparing import compare_branch
    from b2cal_cli.what_if_page import write_page

    home = home_of(ctx)
    with arguments():
        found = compare_branch(home, change)
    page = write_page(home, change, found)
    if as_json:
        print_json({"branch": change.branch, **found.to_json(), "page": str(page)})
    else:
        _say_comparison(found)
        say(f"tables and plots side by side: {page}")


def _say_comparison(found: "Comparison") -> None:
    print_table(
        ("payload", "runs", "column", "entries", "changed", "old", "new", "difference", "in errors", "remark"),
        [_constant_row(change) for change in found.constants[:_SHOWN]],
        title="constants that differ most",
        empty="all constants are the same",
    )
    if len(found.constants) > _SHOWN:
        say(f"and {len(found.constants) - _SHOWN} more; the page and --json have all")
    say(f"{found.unchanged} payloads are the same")
    rows = [
        (f.calibration, f.figure, _text(f.old), f.old_verdict or "-", _text(f.new), f.new_verdict or "-")
        for f in found.figures
    ]
    columns = ("calibration", "figure", "old", "verdict", "new", "verdict")
    print_table(columns, rows, title="figures of merit", empty="no figure of merit")


def _constant_row(change: "ConstantChange") -> Sequence[object]:
    numbers = (_text(number) for number in (change.old, change.new, change.difference, change.errors))
    return (
        change.payload,
        " to ".join(edges_text(change.iov)),
        change.column,
        change.entries,
        change.changed,
        *numbers,
        change.note,
    )


def _text(number: float | None) -> str:
    return "-" if number is None else f"{number:.6g}"

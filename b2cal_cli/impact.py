"""``b2cal impact``: what is affected when a constant changes, and the book of simulated samples."""

import getpass
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from b2cal_cli.cdb_answers import conditions_of, edges_text
from b2cal_cli.output import AsJson, print_json, print_table, say, tell
from b2cal_cli.session import WrongUsage, arguments, home_of

if TYPE_CHECKING:
    from b2cal_core.impact import AffectedCells, Impact
    from b2cal_core.ranges import IoV
    from resources.impact.samples import EmbeddedSamples

app = typer.Typer(
    name="impact", help="What was made from which constants, and is affected by a change.", no_args_is_help=True
)
sample_app = typer.Typer(
    name="sample", help="Simulated samples: with which global tag each was made.", no_args_is_help=True
)
app.add_typer(sample_app)

Runs = Annotated[
    tuple[int, int, int, int] | None,
    typer.Option("--iov", metavar="E R E R", help="The runs in which it changes, -1 for open; by default all."),
]
SampleName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the sample.")]
_SHOWN = 3
"""Ranges of runs in a line for people."""


@app.command()
def show(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The payload that changes.")],
    iov: Runs = None,
    campaign: Annotated[
        str | None, typer.Option(help="Only that of this campaign changes; by default that of all.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the payloads, cDST files and simulated samples that are affected when a payload changes."""
    from resources.campaigns.files import FileCampaignStore
    from resources.impact.opened import open_search

    home = home_of(ctx)
    store = FileCampaignStore(home)
    if campaign is not None:
        with arguments():
            store.campaign(campaign)
    search = open_search(home, store, conditions_of(ctx), left_out=tell)
    with arguments():
        found = search.ask(name, _iov(iov), campaign=campaign)
    if as_json:
        print_json({"name": name, "iov": list(_iov(iov)), **found.to_json()})
    else:
        _say_impact(found)


def _iov(numbers: tuple[int, int, int, int] | None, option: str = "--iov") -> "IoV":
    from b2cal_core.ranges import IoV

    try:
        return IoV(*(numbers or (0, 0, -1, -1)))
    except ValueError as error:
        raise WrongUsage(f"{option}: {error}") from error


def _say_impact(found: "Impact") -> None:
    columns = ("campaign", "payload", "IoVs", "runs", "tags", "affected through")
    rows = [
        (line.campaign, line.name, line.cells, _runs(line), ", ".join(line.tags), _through(line))
        for line in found.payloads
    ]
    print_table(columns, rows, title="payloads", empty="no payload is affected")
    files = [(line.campaign, line.cells, _runs(line), _through(line)) for line in found.cdst]
    print_table(
        ("campaign", "runs with files", "runs", "affected through"), files, title="cDST", empty="no cDST is affected"
    )
    samples = [
        (one.sample.name, one.sample.tag, " to ".join(edges_text(one.sample.iov)), _some(one.names))
        for one in found.samples
    ]
    print_table(("sample", "tag", "runs", "affected through"), samples, title="samples", empty="no sample is affected")


def _runs(line: "AffectedCells") -> str:
    shown = [" to ".join(edges_text(iov)) for iov in line.where[:_SHOWN]]
    more = [f"and {line.ranges - _SHOWN} more"] if line.ranges > _SHOWN else []
    return "\n".join([*shown, *more])


def _through(line: "AffectedCells") -> str:
    return _some(line.through) or "it changes itself"


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more


@sample_app.command()
def add(
    ctx: typer.Context,
    name: SampleName,
    runs: Annotated[
        tuple[int, int, int, int],
        typer.Option("--runs", metavar="E R E R", help="The runs it stands for, -1 for open."),
    ],
    tag: Annotated[str, typer.Option(help="The global tag it was made with.")],
    author: Annotated[str | None, typer.Option(help="Who says so; by default you.")] = None,
    as_json: AsJson = False,
) -> None:
    """Note with which global tag, and for which runs, a simulated sample was made."""
    from b2cal_core.impact import Sample

    with arguments():
        sample = Sample(name, tag, _iov(runs, "--runs"))
    if conditions_of(ctx).get_tag(tag) is None:
        raise WrongUsage(f"there is no global tag {tag!r}; b2cal cdb tags lists those there are")
    _samples(ctx).add(sample, author=author or getpass.getuser())
    if as_json:
        print_json(sample.to_json())
    else:
        say(f"sample {name} is noted, made with {tag}")


@sample_app.command(name="list")
def list_samples(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the samples: those that were noted, and of campaigns for simulation each published bucket."""
    from b2cal_cli.campaign import store_of
    from resources.impact.simulation import all_samples

    samples = all_samples(home_of(ctx), store_of(ctx), conditions_of(ctx))
    if as_json:
        print_json([sample.to_json() for sample in samples])
        return
    rows = [(sample.name, sample.tag, *edges_text(sample.iov)) for sample in samples]
    print_table(
        ("sample", "tag", "first exp/run", "last exp/run"),
        rows,
        empty="no sample yet; note one: b2cal impact sample add NAME --runs … --tag TAG",
    )


@sample_app.command()
def remove(ctx: typer.Context, name: SampleName, as_json: AsJson = False) -> None:
    """Forget a sample."""
    with arguments():
        sample = _samples(ctx).remove(name)
    if as_json:
        print_json(sample.to_json())
    else:
        say(f"sample {name} is forgotten")


def _samples(ctx: typer.Context) -> "EmbeddedSamples":
    from resources.deployment import registry_address
    from resources.impact.samples import EmbeddedSamples

    return EmbeddedSamples(registry_address(home_of(ctx)))

"""The code locations: everything Dagster sees, put together. The only module of the asset graph that names an adapter.

Importing it opens, reads and connects nothing; the home is looked for when the definitions are asked for.
"""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from importlib import resources as packaged_files
from pathlib import Path

import dagster as dg

from b2cal_assets.assets.broken import broken_asset
from b2cal_assets.assets.runs import run_assets
from b2cal_assets.background_executor import stepping_aside
from b2cal_assets.campaign_assets import AssetJob, bucket_job, bucket_runs_spec, campaign_assets
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.code_locations import LOCATION_VARIABLE, campaign_of
from b2cal_assets.collecting_ahead import ahead_calibrations, ahead_job
from b2cal_assets.local_offers import local_specs
from b2cal_assets.run_mirror import RunMirror
from b2cal_assets.workshop import Correspondence, SilentObserver, Workshop
from b2cal_core.campaign_states import CampaignState
from b2cal_core.campaigns import Campaign, Site
from b2cal_core.errors import BackendError, CalibrationError
from b2cal_core.ports import BatchBackend, CafObserver, CampaignStore, ConditionsDB
from b2cal_core.settings import Catalogue
from resources.campaigns.files import FileCampaignStore, parse_campaign
from resources.home import Home
from sensors.gates import gates_sensor
from sensors.impact_tables import impact_tables_sensor
from sensors.new_runs import new_runs_sensor
from sensors.notices import notices_sensor
from sensors.run_feed import run_feed_sensor

_LOG = logging.getLogger("b2cal")
RECONSTRUCTION = "b2cal_detector.reconstruct_job"
"""Entry point of the jobs that make cDST files."""
_PRELOADED = ("b2cal_assets.definitions", "resources.caf.embedded", "resources.conditions.embedded", "scipy.optimize")
"""Loaded once into the server that steps are forked from; together they take seconds to import."""


class EmbeddedWorkshop(dg.ConfigurableResource[Workshop]):
    """The embedded adapters over one home directory."""

    home: str

    def create_resource(self, context: dg.InitResourceContext) -> Workshop:  # noqa: ARG002 (Dagster's signature)
        """The adapters; none of them opens anything before it is asked."""
        return embedded_workshop(Home(Path(self.home)))


def embedded_workshop(home: Home, listener: CafObserver | None = None) -> Workshop:
    """The embedded adapters; ``listener`` hears what happens in long work."""
    from resources.batch.opened import open_batch  # noqa: PLC0415 (numerics load only where work is done)
    from resources.caf.cdst import EmbeddedCdst  # noqa: PLC0415
    from resources.caf.opened import open_caf, open_validation  # noqa: PLC0415
    from resources.conditions.deployed import open_conditions, open_publisher  # noqa: PLC0415
    from resources.deployment import read_deployment, registry_address  # noqa: PLC0415
    from resources.runs.embedded import EmbeddedRunRegistry  # noqa: PLC0415
    from resources.signoff.embedded import EmbeddedSignOffLog  # noqa: PLC0415

    home.create()
    settings = read_deployment(home)
    conditions = open_conditions(home)

    def batch(site: Site) -> BatchBackend:
        return open_batch(site.batch, settings.batch, max_processes=site.max_processes)

    return Workshop(
        places=home.area_at_hand,
        campaigns=FileCampaignStore(home),
        runs=EmbeddedRunRegistry(registry_address(home)),
        conditions=conditions,
        publisher=open_publisher(home, conditions),
        sign_offs=EmbeddedSignOffLog(registry_address(home)),
        caf=lambda site: open_caf(site, home, settings, batch=batch(site), conditions=conditions),
        cdst=lambda site: EmbeddedCdst(batch(site), conditions, RECONSTRUCTION),
        validate=lambda site: open_validation(site, settings),
        listener=listener or SilentObserver(),
        correspondence=lambda: embedded_correspondence(home),
    )


def embedded_correspondence(home: Home) -> Correspondence:
    """What people are told with, as the installation says."""
    from resources.deployment import read_deployment, registry_address  # noqa: PLC0415
    from resources.notify.book import EmbeddedNoticeBook  # noqa: PLC0415
    from resources.notify.opened import open_channels, open_tickets  # noqa: PLC0415
    from resources.notify.settings import people_of  # noqa: PLC0415

    settings = read_deployment(home)
    return Correspondence(
        open_channels(settings, home),
        EmbeddedNoticeBook(registry_address(home)),
        people_of(settings.people),
        open_tickets(settings),
        settings.dagster_address,
    )


def embedded_mirror(home: Home) -> RunMirror | None:
    """What brings the runs of the detector's run registry into ours, where the installation names one."""
    from resources.deployment import read_deployment, registry_address  # noqa: PLC0415
    from resources.runs.embedded import EmbeddedRunRegistry  # noqa: PLC0415
    from resources.runs.opened import open_run_source  # noqa: PLC0415

    settings = read_deployment(home).runs
    source = open_run_source(settings)
    if source is None:
        return None
    return RunMirror(source, EmbeddedRunRegistry(registry_address(home)), again=timedelta(days=settings.again_days))


def reference_plan() -> CampaignPlan:
    """The campaign of the reference detector, as it is packaged."""
    package = Path(str(packaged_files.files("b2cal_detector")))
    campaign: Campaign = parse_campaign(
        (package / "campaign.yaml").read_text(encoding="utf-8"), str(package / "campaign.yaml")
    )
    catalogue = Catalogue.from_json(json.loads((package / "catalogue.json").read_text(encoding="utf-8")))
    return CampaignPlan(campaign, catalogue, package / "scripts").checked()


def _shown(store: CampaignStore) -> list[str]:
    """The campaigns that are not archived; all of them while the database that knows does not answer."""
    try:
        return [name for name, state in store.states().items() if state is not CampaignState.archived]
    except BackendError as error:
        _LOG.error("archived campaigns are shown too: %s", error)
        return list(store.names())


def read_plans(store: CampaignStore, only: str | None = None) -> tuple[list[CampaignPlan], dict[str, CalibrationError]]:
    """The campaigns of a store that are not archived, and what is wrong with those that cannot be read.

    Args:
        store: where campaigns are.
        only: the one to read; that there is no such campaign is wrong with it, too.
    """
    plans, broken = [], {}
    shown = _shown(store)
    wanted = shown if only is None else [only] if only in shown or only not in store.names() else []
    for name in wanted:
        try:
            plans.append(CampaignPlan.read(store, name))
        except CalibrationError as error:
            _LOG.error("campaign %s is left out: %s", name, error)
            broken[name] = error
    return plans, broken


def service_executor(plan: CampaignPlan | None = None) -> dg.ExecutorDefinition:
    """Steps in processes of their own, forked from a warm server; in the background, like jobs, below priority zero."""
    processes = plan.campaign.site.max_processes if plan is not None else None
    executor = dg.multiprocess_executor.configured(
        {
            "max_concurrent": processes or os.cpu_count() or 1,
            "start_method": {"forkserver": {"preload_modules": list(_PRELOADED)}},
        }
    )
    return stepping_aside(executor) if plan is not None and plan.campaign.priority < 0 else executor


def build_definitions(
    home: Home | None = None,
    *,
    plans: Sequence[CampaignPlan] | None = None,
    workshop: Workshop | None = None,
    executor: dg.ExecutorDefinition | None = None,
) -> dg.Definitions:
    """The definitions of one installation, all in one location.

    Args:
        home: where its state is; by default what the environment says.
        plans: the campaigns; by default those of the home, or the reference campaign when it has none.
        workshop: the ports, as they are; by default the embedded adapters over the home.
        executor: how steps are run; by default forked from a warm server.
    """
    home = Home.from_environment() if home is None else home
    broken: dict[str, CalibrationError] = {}
    if plans is None:
        plans, broken = read_plans(FileCampaignStore(home))
        plans = plans if plans or broken else [reference_plan()]
    used = workshop or EmbeddedWorkshop(home=str(home.path))
    jobs, ahead = _jobs(plans, used, executor)
    return dg.Definitions(
        assets=[*run_assets(), *_assets(plans, broken)],
        jobs=[*jobs, *ahead],
        sensors=[
            *_feeds(home),
            *([new_runs_sensor(plans, [*jobs, *ahead]), gates_sensor(plans, jobs)] if plans else []),
            *_after_the_work(home, plans),
        ],
        resources={"workshop": used},
        executor=executor or service_executor(),
    )


def shared_definitions(home: Home, *, workshop: Workshop | None = None) -> dg.Definitions:
    """What campaigns share that have a location each: the runs and how they come in, and who is told what."""
    plans, _ = read_plans(FileCampaignStore(home))
    return dg.Definitions(
        assets=run_assets(),
        sensors=[*_feeds(home), new_runs_sensor([], []), *_after_the_work(home, plans)],
        resources={"workshop": workshop or EmbeddedWorkshop(home=str(home.path))},
    )


def campaign_definitions(
    home: Home, campaign: str, *, workshop: Workshop | None = None, executor: dg.ExecutorDefinition | None = None
) -> dg.Definitions:
    """What the location of one campaign shows; nothing once the campaign is archived.

    The runs that its buckets are of are only referred to: the shared location has them.
    """
    plans, broken = read_plans(FileCampaignStore(home), campaign)
    used = workshop or EmbeddedWorkshop(home=str(home.path))
    jobs, ahead = _jobs(plans, used, executor)
    starters = [new_runs_sensor(plans, [*jobs, *ahead], registers=False), gates_sensor(plans, jobs)]
    return dg.Definitions(
        assets=_assets(plans, broken),
        jobs=[*jobs, *ahead],
        sensors=starters if plans else [],
        resources={"workshop": used},
        executor=executor or service_executor(),
    )


def _jobs(
    plans: Sequence[CampaignPlan], workshop: object, executor: dg.ExecutorDefinition | None
) -> tuple[list[AssetJob], list[dg.JobDefinition]]:
    """The jobs that work buckets, and those that collect ahead; ``workshop`` is the resource."""
    jobs = [bucket_job(plan, executor or service_executor(plan)) for plan in plans]
    early = [plan for plan in plans if ahead_calibrations(plan)]
    return jobs, [ahead_job(plan, executor or service_executor(plan), workshop) for plan in early]


def _assets(
    plans: Sequence[CampaignPlan], broken: Mapping[str, CalibrationError]
) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """The assets of campaigns, and what stands for those that cannot be read."""
    return [
        *(bucket_runs_spec(plan) for plan in plans),
        *local_specs(plans),
        *(asset for plan in plans for asset in campaign_assets(plan)),
        *(broken_asset(name, error) for name, error in broken.items()),
    ]


def _feeds(home: Home) -> list[dg.SensorDefinition]:
    """The sensor of the detector's run registry, where there is one."""
    mirror = embedded_mirror(home)
    return [] if mirror is None else [run_feed_sensor(mirror)]


def _after_the_work(home: Home, plans: Sequence[CampaignPlan]) -> list[dg.SensorDefinition]:
    """The sensors that start nothing: who is told what, and the tables that questions are answered from."""

    def grow(conditions: ConditionsDB, tag: str) -> None:
        from resources.impact.opened import tables  # noqa: PLC0415 (numerics load only where work is done)
        from resources.impact.tag_cells import TagCells  # noqa: PLC0415

        TagCells(tables(home), conditions).of(tag)

    return [notices_sensor(plans), impact_tables_sensor(plans, grow)] if plans else []


@dg.definitions
def defs() -> dg.Definitions:
    """What ``dagster dev`` and a code server load: everything, or what the location shows that they are told to be."""
    location = os.environ.get(LOCATION_VARIABLE)
    if not location:
        return build_definitions()
    home, campaign = Home.from_environment(), campaign_of(location)
    return shared_definitions(home) if campaign is None else campaign_definitions(home, campaign)

"""The CAF with a real conditions database: tags as the start of the database chain."""

from pathlib import Path

import numpy as np
import pytest
from caf_workbench import Notebook, Workbench, values

from b2cal_caf.payload_files import write_payload
from b2cal_core.errors import ConfigurationError
from b2cal_core.payloads import LocalPayload
from b2cal_core.ports import CafRequest, CafResult
from b2cal_core.ranges import IoV
from resources.batch.local import LocalBatch
from resources.caf.embedded import EmbeddedCaf
from resources.conditions.embedded import EmbeddedConditionsDB

RUNS = [(7, 1, 10), (7, 2, 20)]


@pytest.fixture
def tags(tmp_path: Path) -> EmbeddedConditionsDB:
    return EmbeddedConditionsDB(tmp_path / "conditions")


def put(tags: EmbeddedConditionsDB, place: Path, tag: str, *starts: tuple[IoV, float]) -> None:
    if tags.get_tag(tag) is None:
        tags.create_tag(tag)
    payloads = []
    for number, (iov, value) in enumerate(starts):
        file = place / f"{tag}_{number}_{value}.root"
        write_payload(file, "Start", {"value": np.array([value])})
        payloads.append(LocalPayload("Start", file, iov))
    tags.replace_iovs(tag, ["Start"], payloads)


def run(
    bench: Workbench, tags: EmbeddedConditionsDB, *chain: str, name: str = "request"
) -> tuple[CafResult, list[float]]:
    request: CafRequest = bench.request(
        bench.kept_files(RUNS),
        name=name,
        chain=chain,
        iov=IoV(7, 1, 7, 2),
        collector={"class": "CounterWithConstants"},
        calibrations=[{"name": "c", "strategy": "SimpleRunByRun", "also": ["start"]}],
    )
    result = EmbeddedCaf(LocalBatch(2), tags, bench.place / "cache").run(request, Notebook())
    return result, list(values(result.databases["c"], "Seen_start").values())


def test_the_last_tag_of_the_chain_wins_and_storages_come_before_all_tags(
    bench: Workbench, tags: EmbeddedConditionsDB
) -> None:
    put(tags, bench.place, "base", (IoV(0, 0, -1, -1), 1.0))
    put(tags, bench.place, "staging", (IoV(7, 2, 7, 9), 2.0))
    assert run(bench, tags, "base", "staging")[1] == [1.0, 2.0]
    assert run(bench, tags, "staging", "base", name="turned")[1] == [1.0, 1.0]
    local = bench.constants("local", {"Start": [(IoV(7, 1, 7, 1), 3.0)]})
    assert run(bench, tags, str(local), "base", "staging", name="local_first")[1] == [3.0, 2.0]


def test_a_changed_tag_counts_where_the_bucket_is_and_only_there(bench: Workbench, tags: EmbeddedConditionsDB) -> None:
    put(tags, bench.place, "base", (IoV(0, 0, 7, 9), 1.0), (IoV(8, 0, -1, -1), 5.0))
    first, _ = run(bench, tags, "base")
    assert not first.resumed
    put(tags, bench.place, "base", (IoV(0, 0, 7, 9), 1.0), (IoV(8, 0, -1, -1), 6.0))
    assert run(bench, tags, "base")[0].resumed
    put(tags, bench.place, "base", (IoV(0, 0, 7, 9), 4.0), (IoV(8, 0, -1, -1), 6.0))
    changed, starts = run(bench, tags, "base")
    assert not changed.resumed
    assert starts == [4.0, 4.0]


def test_a_tag_that_does_not_exist_is_named(bench: Workbench, tags: EmbeddedConditionsDB) -> None:
    with pytest.raises(ConfigurationError, match="'nowhere'"):
        run(bench, tags, "nowhere")

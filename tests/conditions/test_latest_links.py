"""What is valid in a run is found alike on both databases, whatever the IoVs of a tag."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from b2cal_core.publishing import TagIov
from b2cal_core.ranges import IoV
from resources.conditions import schema
from resources.conditions.embedded import EmbeddedConditionsDB
from resources.conditions.latest_links import ValidLinks
from resources.conditions.schema import iovs, names
from resources.conditions.server import lookups

EDGES = st.tuples(st.integers(0, 2), st.integers(0, 3))
LINKS = st.lists(
    st.builds(
        lambda name, edges, is_open: TagIov(
            name, 1, IoV(*min(edges), -1, -1) if is_open else IoV(*min(edges), *max(edges))
        ),
        st.sampled_from("ABCD"),
        st.tuples(EDGES, EDGES),
        st.booleans(),
    ),
    max_size=10,
    unique=True,
)


@pytest.fixture(scope="module", params=["SQLite", "MariaDB"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> EmbeddedConditionsDB:
    root: Path = tmp_path_factory.mktemp("latest")
    url = None if request.param == "SQLite" else request.getfixturevalue("mariadb").new_database()
    made = EmbeddedConditionsDB(root / "database", url=url, pooled=True)
    for name in "ABCD":
        (root / name).write_text(name)
    made.put_payloads([(name, root / name) for name in "ABCD"])
    return made


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(links=LINKS)
def test_what_is_valid_is_what_contains_the_run(database, links):
    tag = f"tag_{len(database.list_tags())}"
    database.create_tag(tag)
    database.add_iovs(tag, links, allow_overlaps=True)
    look = ValidLinks(_rows_of)
    with database.database.read() as connection:
        tag_id = lookups.tag_named(connection, tag).id
        for exp, run in [(0, 0), (0, 3), (1, 1), (2, 3), (2, 4), (9, 0)]:
            found = look.find(connection, tag_id, schema.run_key(exp, run))
            valid = [(link.name, link.iov) for link in links if link.iov.start <= (exp, run) < link.iov.stop]
            assert sorted((row.name, schema.iov_of(row.start, row.stop)) for row in found) == sorted(valid)


def _rows_of(source: sa.FromClause) -> sa.Select:
    return sa.select(names.c.name, iovs.c.start, iovs.c.stop).select_from(
        source.join(names, names.c.id == iovs.c.name_id)
    )

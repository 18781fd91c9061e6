"""Every part of the registry goes along when a home moves."""

import importlib
from pathlib import Path

import resources
from resources.home import Home
from resources.sql_database import OWN_TABLES
from resources.storage import copying
from resources.storage.upgrades import looked_at

ROOM = Path(resources.__file__).parent


def declared() -> set[str]:
    """The tables of all modules that keep some in the registry."""
    names: set[str] = set()
    for file in ROOM.rglob("*.py"):
        if "_METADATA = MetaData()" in file.read_text():
            module = importlib.import_module(".".join(file.relative_to(ROOM.parent).with_suffix("").parts))
            names |= set(module._METADATA.tables)
    return names


def test_every_table_of_the_registry_is_made_where_rows_are_copied_to(tmp_path: Path) -> None:
    home = Home(tmp_path)
    copying._make_parts(home.registry_url)
    with looked_at(home.registry_url).reading() as connection:
        found = set(copying._names(connection))
    assert found == declared() | set(OWN_TABLES.tables)


def test_every_table_of_the_registry_has_a_name_of_its_own() -> None:
    assert all(name.startswith("reg_") for name in declared())

"""The JSON objects of Belle II's REST interface, version 2, made from rows of the tables.

Payloads and IoVs are made as text, since one answer may have thousands: what never changes of a row is made once.
Source: replies that the public clients of the Belle II conditions database read.
"""

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from b2cal_core.payloads import TagState
from resources.conditions import schema

PACKAGE = "dbstore"
STATES = tuple({"globalTagStatusId": i, "name": state.value} for i, state in enumerate(TagState, 1))
TYPES = tuple({"globalTagTypeId": i, "name": name} for i, name in enumerate(("DEV", "RELEASE"), 1))
_KEPT = 1 << 16

Row = sa.Row[Any]
PayloadFields = tuple[int, str, int, str, str, str]
"""Id, name, revision, MD5, when it was added, and by whom: what a payload's object depends on, and all of it fixed."""


def tag_object(row: Row) -> dict[str, Any]:
    """A global tag; ``payloadCount`` is the number of payload names it has."""
    types = {each["name"]: each for each in TYPES}
    return {
        "globalTagId": row.id,
        "name": row.name,
        "description": row.description,
        "isDefault": False,
        "globalTagStatus": STATES[list(TagState).index(TagState(row.state))],
        "globalTagType": types.get(row.type, {"globalTagTypeId": 0, "name": row.type}),
        "payloadCount": row.payload_count,
        "dtmIns": row.made_at,
        "dtmMod": row.changed_at,
        "modifiedBy": row.made_by,
    }


def payload_url(name: str, revision: int) -> str:
    """Where a payload's file is, seen from the base address."""
    return f"{PACKAGE}/{quote(name, safe='')}/{PACKAGE}_{quote(name, safe='')}_rev_{revision}.root"


@lru_cache(_KEPT)
def payload_text(base_url: str, fields: PayloadFields) -> str:
    """A payload as JSON; ``base_url`` ends with a slash."""
    id_, name, revision, md5, at, author = fields
    return json.dumps(
        {
            "payloadId": id_,
            "basf2Module": {"name": name, "basf2Package": {"name": PACKAGE}},
            "revision": revision,
            "checksum": md5,
            "payloadUrl": payload_url(name, revision),
            "baseUrl": base_url,
            "isDefault": False,
            "dtmIns": at,
            "dtmMod": at,
            "modifiedBy": author,
        },
        separators=(",", ":"),
    )


def iov_text(link: int, start: int, stop: int, *, at: str, author: str) -> str:
    """An IoV as JSON, from the edges as they are stored and when, and by whom, it became as it is."""
    return f'{{"payloadIovId":{link},{_runs(start, stop)},{_stamped(at, author)}}}'


@lru_cache(_KEPT)
def _runs(start: int, stop: int) -> str:
    first_exp, first_run, final_exp, final_run = schema.iov_of(start, stop)
    return f'"expStart":{first_exp},"runStart":{first_run},"expEnd":{final_exp},"runEnd":{final_run}'


@lru_cache(_KEPT)
def _stamped(at: str, author: str) -> str:
    fields = {"dtmIns": at, "dtmMod": at, "modifiedBy": author}
    return json.dumps(fields, separators=(",", ":"))[1:-1]


def list_text(items: Iterable[str]) -> str:
    """A JSON list of values that are JSON already."""
    return f"[{','.join(items)}]"

"""The calls that change something, each in the name of the user whose token came with it."""

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from b2cal_core.errors import ConfigurationError, RightsError
from b2cal_core.payloads import Payload, TagState
from b2cal_core.rights import Rights
from resources.conditions import records
from resources.conditions.server import bodies, lookups, shapes
from resources.conditions.server.by_id import LinkEdits, TagEdits, copy_name
from resources.conditions.server.reading import Reading
from resources.conditions.server.refusals import NotFound
from resources.conditions.server.running import RunningUpdate, iov_of, update_running
from resources.conditions.server.service import Service, T, json_text, number_in, route, whole_number

_IOV = "/payloadIov/{first_exp},{first_run},{final_exp},{final_run}"
_NOTHING = 204


@dataclass(frozen=True, slots=True)
class Writing:
    """Handlers of the calls that change something."""

    service: Service

    def routes(self) -> list[Route]:
        """The calls."""
        return [
            route("/globalTag/{type}", self.create_tag, "POST"),
            route("/globalTag", self.change_tag, "PUT"),
            route("/globalTags/{tag}", self.clone_tag, "POST"),
            route("/globalTag/{tag}/updateGlobalTagStatus/{state}", self.change_state, "PUT"),
            route("/package/dbstore/module/{module}/payload", self.upload, "POST"),
            route("/globalTagPayload/{tag},{payload}" + _IOV, self.create_iov, "POST"),
            route("/payloadIov/{iov}", self.change_iov, "PUT"),
            route("/payloadIov/{iov}", self.delete_iov, "DELETE"),
            route("/globalTagPayload/{tag}/updateRunningPayloads", self.update_running, "POST"),
        ]

    async def create_tag(self, request: Request) -> Response:
        """Make a tag of the type named; who ``modifiedBy`` claims to be is not believed."""
        rights = self.service.rights(request)
        asked = await self._json(request, dict, "a global tag")
        name, description = bodies.text_in(asked, "name"), bodies.text_in(asked, "description", "")
        kind = _known_type(request.path_params["type"])
        view = self.service.database.seen_by(rights)
        await run_in_threadpool(view.create_tag, name, description, type=kind)
        return await self._tag(lambda connection: lookups.tag_named(connection, name))

    async def change_tag(self, request: Request) -> Response:
        """Give a tag another name, description or type."""
        rights = self.service.rights(request)
        asked = await self._json(request, dict, "a global tag")
        tag_id = whole_number(str(asked.get("globalTagId")), "globalTagId")
        wanted = {key: bodies.text_in(asked, key) for key in ("name", "description") if key in asked}
        if "globalTagType" in asked:
            wanted["type"] = _known_type(_name_in(asked, "globalTagType"))
        state = _name_in(asked, "globalTagStatus") if "globalTagStatus" in asked else TagState.OPEN
        edits = TagEdits(self.service.database.database, rights)
        await run_in_threadpool(edits.change, tag_id, wanted, state=state)
        return await self._tag(lambda connection: lookups.tag_with_id(connection, tag_id))

    async def clone_tag(self, request: Request) -> Response:
        """Copy a tag; whoever may administer any tag may do so, and rename the copy to such a one."""
        rights = self.service.rights(request)
        if not rights.admin:
            raise RightsError(f"{rights.user} may not make any global tag; ask an administrator. Nothing was changed")
        tag_id = number_in(request, "tag")
        source = await self.service.read_aside(lambda connection: lookups.tag_with_id(connection, tag_id))
        name = copy_name(tag_id, source.name)
        view = self.service.database.seen_by(Rights.everything(rights.user))
        await run_in_threadpool(view.clone_tag, source.name, name, description=source.description)
        return await self._tag(lambda connection: lookups.tag_named(connection, name))

    async def change_state(self, request: Request) -> Response:
        """Bring a tag to another state, where the rules of states allow it."""
        rights = self.service.rights(request)
        name, wanted = request.path_params["tag"], request.path_params["state"]
        if wanted not in set(TagState):
            raise ConfigurationError(f"there is no state {wanted!r}; a tag can be {', '.join(TagState)}")
        row = await self.service.read_aside(lambda connection: lookups.tag_named(connection, name))
        view = self.service.database.seen_by(rights)
        await run_in_threadpool(view.set_state, name, expected=TagState(row.state), new=TagState(wanted))
        return Response(status_code=_NOTHING)

    async def upload(self, request: Request) -> Response:
        """Store a payload; what exists with the same name and content is given back."""
        rights = self.service.rights(request)
        if not rights.admin and not rights.create_iov:
            raise RightsError(f"{rights.user} may not change any global tag, so may not upload; nothing was stored")
        name = records.check_payload_name(request.path_params["module"])
        body = await bodies.body_of(request, limit=self.service.largest_payload)
        content, said = bodies.uploaded_payload(request.headers.get("content-type", ""), body)
        row = await run_in_threadpool(self._store, rights, name, content, bodies.text_in(said, "checksum"))
        return json_text(Reading(self.service).payload_text(request, row))

    def _store(self, rights: Rights, name: str, content: bytes, checksum: str) -> shapes.Row:
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != checksum.lower():
            raise ConfigurationError(
                f"what arrived of payload {name} has MD5 {found}, the client says {checksum!r:.50}; send it again."
                " Nothing was stored"
            )
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "payload"
            file.write_bytes(content)
            payload = self.service.database.seen_by(rights).put_payload(name, file)
        return self.service.read(lambda connection: _row_of(connection, payload))

    async def create_iov(self, request: Request) -> Response:
        """Link a payload to an OPEN tag."""
        edits = self._edits(request)
        tag, payload = number_in(request, "tag"), number_in(request, "payload")
        names = ("first_exp", "first_run", "final_exp", "final_run")
        iov = iov_of([whole_number(request.path_params[name], name, least=-1) for name in names])
        return json_text(await run_in_threadpool(edits.create, tag, payload, iov))

    async def change_iov(self, request: Request) -> Response:
        """Give a link of an OPEN tag another IoV."""
        edits = self._edits(request)
        given = request.query_params
        names = ("expStart", "runStart", "expEnd", "runEnd")
        iov = iov_of([whole_number(given.get(name, ""), name, least=-1) for name in names])
        await run_in_threadpool(edits.change, number_in(request, "iov"), iov)
        return Response(status_code=_NOTHING)

    async def delete_iov(self, request: Request) -> Response:
        """Remove a link of an OPEN tag."""
        edits = self._edits(request)
        await run_in_threadpool(edits.delete, number_in(request, "iov"))
        return Response(status_code=_NOTHING)

    async def update_running(self, request: Request) -> Response:
        """Close and add IoVs of a RUNNING tag, all at once."""
        rights = self.service.rights(request)
        update = RunningUpdate.of(await self._json(request, list, "a running update"))
        database, tag = self.service.database.database, request.path_params["tag"]
        await run_in_threadpool(update_running, database, rights, tag, update)
        return Response(status_code=_NOTHING)

    def _edits(self, request: Request) -> LinkEdits:
        return LinkEdits(self.service.database.database, self.service.rights(request))

    async def _json(self, request: Request, kind: type[T], what: str) -> T:
        body = await bodies.body_of(request, limit=self.service.largest_json)
        found: T = bodies.json_of(body, kind, what)
        return found

    async def _tag(self, find: Callable[[sa.Connection], shapes.Row]) -> Response:
        return JSONResponse(shapes.tag_object(await self.service.read_aside(find)))


def _known_type(name: str) -> str:
    known = [each["name"] for each in shapes.TYPES]
    if name not in known:
        raise ConfigurationError(f"there is no type of global tags {name!r}; there are {' and '.join(map(str, known))}")
    return name


def _name_in(asked: Mapping[str, Any], key: str) -> str:
    if not isinstance(asked[key], dict):
        raise ConfigurationError(f"the field {key!r} must be an object with a name; nothing was changed")
    return bodies.text_in(asked[key], "name")


def _row_of(connection: sa.Connection, payload: Payload) -> shapes.Row:
    row = lookups.payload_with_revision(connection, payload.name, payload.revision)
    if row is None:
        raise NotFound(f"payload {payload.name} revision {payload.revision} is not there any more")
    return row

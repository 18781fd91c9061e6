"""The calls that read: tags, payloads and IoVs. Everyone may make them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote

import sqlalchemy as sa
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from b2cal_core.errors import ConfigurationError
from b2cal_core.ranges import ExpRun
from resources.conditions.server import bodies, lookups, shapes
from resources.conditions.server.service import Service, json_text, number_in, route, whole_number
from resources.conditions.server.shapes import Row


@dataclass(frozen=True, slots=True)
class Reading:
    """Handlers of the calls that read."""

    service: Service

    def routes(self) -> list[Route]:
        """The calls; the one jobs make for every run comes first."""
        return [
            route("/iovPayloads", self.valid_in_run),
            route("/globalTag/{tag}", self.tag),
            route("/globalTagStatus", self.states),
            route("/globalTagType", self.types),
            route("/globalTags", self.tags),
            route("/globalTag/{tag}/globalTagPayloads", self.links_of_tag),
            route("/globalTag/{tag}/payloads", self.payloads_of_tag),
            route("/payloads", self.payloads),
            route("/payload/{payload}", self.payload),
            route("/module/{module}/payloads", self.payloads),
            route("/checkPayloads", self.check_payloads, "POST"),
        ]

    async def valid_in_run(self, request: Request) -> Response:
        """What a tag has in a run."""
        tag, run = _tag_and_run(request)
        base = self.service.payload_base(request)
        return json_text(await self.service.read_soon(lambda connection: lookups.valid_in(connection, tag, run, base)))

    async def tag(self, request: Request) -> Response:
        """One tag, by name."""
        name = request.path_params["tag"]
        row = await self.service.read_soon(lambda connection: lookups.tag_named(connection, name))
        return JSONResponse(shapes.tag_object(row))

    async def states(self, _request: Request) -> Response:
        """The states a tag can have; what clients look for a server with."""
        return JSONResponse(shapes.STATES)

    async def types(self, _request: Request) -> Response:
        """The types a tag can have."""
        return JSONResponse(shapes.TYPES)

    async def tags(self, request: Request) -> Response:
        """All tags; for ``HEAD``, by which older clients look for a server, none is read."""
        if request.method == "HEAD":
            return Response(media_type="application/json")
        rows = await self.service.read_aside(lookups.all_tags)
        return JSONResponse([shapes.tag_object(row) for row in rows])

    async def links_of_tag(self, request: Request) -> Response:
        """All IoVs of a tag, with their payloads."""
        tag, base = request.path_params["tag"], self.service.payload_base(request)
        return json_text(await self.service.read_aside(lambda connection: lookups.listing(connection, tag, base)))

    async def payloads_of_tag(self, request: Request) -> Response:
        """The payloads of a tag."""
        find = partial(lookups.payloads_in_tag, name=request.path_params["tag"])
        return self._payloads(request, await self.service.read_aside(find))

    async def payloads(self, request: Request) -> Response:
        """The payloads of a name, or all there are."""
        find = partial(lookups.payloads_of_name, name=request.path_params.get("module"))
        return self._payloads(request, await self.service.read_aside(find))

    async def payload(self, request: Request) -> Response:
        """One payload, by id."""
        find = partial(lookups.payload_with_id, payload_id=number_in(request, "payload"))
        return json_text(self.payload_text(request, await self.service.read_soon(find)))

    async def check_payloads(self, request: Request) -> Response:
        """Those of the payloads asked for that exist."""
        body = await bodies.body_of(request, limit=self.service.largest_json)
        wanted = [_name_and_sum(each) for each in bodies.json_of(body, list, "the payloads to look for")]

        def find(connection: sa.Connection) -> list[Row]:
            return lookups.payloads_with_sums(connection, wanted)

        return self._payloads(request, await self.service.read_aside(find))

    def payload_text(self, request: Request, row: Row) -> str:
        """A payload as JSON."""
        return shapes.payload_text(self.service.payload_base(request), tuple(row))

    def _payloads(self, request: Request, rows: Sequence[Row]) -> Response:
        return json_text(shapes.list_text(self.payload_text(request, row) for row in rows))


def _tag_and_run(request: Request) -> tuple[str, ExpRun]:
    """The three parameters of a look-up.

    Clients encode the name of the tag once, twice or not at all, so that a plus may arrive as a blank or as ``%2B``; no
    tag has either in its name.
    """
    try:
        given = [request.query_params[name] for name in ("gtName", "expNumber", "runNumber")]
    except KeyError as error:
        raise ConfigurationError(
            f"the parameter {error} is missing; iovPayloads takes gtName, expNumber, runNumber"
        ) from None
    tag, exp, run = given
    return unquote(tag).replace(" ", "+"), ExpRun(whole_number(exp, "expNumber"), whole_number(run, "runNumber"))


def _name_and_sum(entry: object) -> tuple[str, str]:
    if not isinstance(entry, dict):
        raise ConfigurationError(f"a payload to look for is {{name, checksum}}, got {json.dumps(entry)[:100]}")
    return bodies.text_in(entry, "name"), bodies.text_in(entry, "checksum").lower()

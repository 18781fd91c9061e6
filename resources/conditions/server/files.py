"""Payload files as clients download them: never one whose content is not what its checksum says."""

import base64
from dataclasses import dataclass
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from b2cal_core.payloads import Payload
from resources.conditions.server.refusals import NotFound
from resources.conditions.server.service import PAYLOADS, Service, whole_number
from resources.conditions.server.shapes import PACKAGE

_NOT_MODIFIED = 304


@dataclass(frozen=True, slots=True)
class Files:
    """The handler of downloads."""

    service: Service

    def routes(self) -> list[Route]:
        """Where payload files are."""
        return [Route(f"{PAYLOADS}/{{module}}/{{file}}", self.payload_file, methods=["GET"])]

    async def payload_file(self, request: Request) -> Response:
        """A payload's file; its content never changes, so a client that has it need not get it again."""
        module, file = request.path_params["module"], request.path_params["file"]
        payload = await run_in_threadpool(self._find, module, file)
        tag = f'"{payload.md5}"'
        headers = {"ETag": tag, "Cache-Control": "public, max-age=31536000, immutable"}
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=_NOT_MODIFIED, headers=headers)
        path = await run_in_threadpool(self._verified, payload)
        headers["Content-MD5"] = base64.b64encode(bytes.fromhex(payload.md5)).decode()
        return FileResponse(path, headers=headers, media_type="application/x-root")

    def _find(self, module: str, file: str) -> Payload:
        prefix, suffix = f"{PACKAGE}_{module}_rev_", ".root"
        revision = file.removeprefix(prefix).removesuffix(suffix)
        if file != f"{prefix}{revision}{suffix}" or not revision.isascii() or not revision.isdecimal():
            raise NotFound(f"there is no payload file {file!r:.200}; take its address from the payload's payloadUrl")
        payload = self.service.database.payload(module, whole_number(revision, "revision"))
        if payload is None:
            raise NotFound(f"there is no payload {module} revision {revision}")
        return payload

    def _verified(self, payload: Payload) -> Path:
        return self.service.database.payload_file(payload)

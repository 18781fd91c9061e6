"""A client of the conditions server that asks as Belle II's own command-line client does, and believes nothing."""

import hashlib
import json
from typing import Any
from urllib.parse import quote

import requests


class RefusedError(RuntimeError):
    """The server answered with a status of 300 or more; ``said`` is the JSON it sent."""

    def __init__(self, status: int, said: dict[str, Any]) -> None:
        super().__init__(f"{status}: {said}")
        self.status, self.said = status, said


class Belle2Client:
    """One session with a server; ``token`` is sent with every request, as the official client does."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self.base = url.rstrip("/") + "/"
        self.session = requests.Session()
        self.session.trust_env = False
        probe = self.session.head(self.base + "v2/globalTags", headers={"Accept": "application/xml"})
        probe.raise_for_status()
        self.session.headers.update({"Accept": "application/json", "Cache-Control": "no-cache"})
        if token is not None:
            self.session.headers["X-Authorization"] = f"Bearer {token}"

    def ask(self, verb: str, path: str, **options: Any) -> Any:
        """The JSON the server answers with; ``None`` for an answer without a body."""
        reply = self.session.request(verb, self.base + "v2/" + path.lstrip("/"), **options)
        if reply.status_code >= 300:
            said = reply.json()
            assert said["code"] == reply.status_code
            assert said["reason"]
            raise RefusedError(reply.status_code, said)
        return None if reply.status_code == 204 else reply.json()

    def create_tag(self, name: str, kind: str = "DEV") -> dict[str, Any]:
        """Make a tag."""
        info = {"name": name, "description": "a test", "modifiedBy": "somebody_else", "isDefault": False}
        made: dict[str, Any] = self.ask("POST", f"/globalTag/{kind}", json=info)
        return made

    def tag(self, name: str) -> dict[str, Any]:
        """A tag by name."""
        found: dict[str, Any] = self.ask("GET", f"/globalTag/{quote(name, safe='')}")
        return found

    def set_state(self, name: str, *states: str) -> None:
        """Bring a tag through states."""
        for state in states:
            self.ask("PUT", f"/globalTag/{quote(name, safe='')}/updateGlobalTagStatus/{state}")

    def upload(self, name: str, content: bytes, *, checksum: str | None = None) -> dict[str, Any]:
        """Upload a payload in the official client's own form of multipart/mixed."""
        said = {"checksum": checksum or hashlib.md5(content, usedforsecurity=False).hexdigest(), "isDefault": False}
        body, content_type = mixed(
            ("/somewhere/dbstore.root", content, "application/x-root"),
            ("json", json.dumps(said).encode(), "application/json"),
        )
        path = f"/package/dbstore/module/{quote(name, safe='')}/payload"
        stored: dict[str, Any] = self.ask("POST", path, data=body, headers={"Content-Type": content_type})
        return stored

    def create_iov(self, tag: int, payload: int, *iov: int) -> int:
        """Link a payload; the id of the link."""
        made = self.ask("POST", f"/globalTagPayload/{tag},{payload}/payloadIov/{','.join(map(str, iov))}")
        return int(made["payloadIovId"])

    def fill(self, tag: int, name: str, content: bytes, *iov: int) -> tuple[int, int]:
        """Upload a payload and link it; the ids of both."""
        payload = int(self.upload(name, content)["payloadId"])
        return payload, self.create_iov(tag, payload, *iov)

    def update_running(self, tag: str, *operations: tuple[str, list[int]]) -> None:
        """Send operations on a RUNNING tag; its name is not encoded, as in the official client."""
        listed = [{"operation": kind, "data": data} for kind, data in operations]
        self.ask("POST", f"/globalTagPayload/{tag}/updateRunningPayloads", json=listed)

    def content(self, tag: str) -> set[tuple[str, int, int, int, int, int]]:
        """(name, revision, IoV) of everything in a tag."""
        listed = self.ask("GET", f"/globalTag/{quote(tag, safe='')}/globalTagPayloads")
        return {(*_named(item["payloadId"]), *_iov(iov)) for item in listed for iov in item["payloadIovs"]}

    def link_ids(self, tag: str) -> dict[tuple[str, int], int]:
        """(name, revision) to the id of its last link in a tag."""
        listed = self.ask("GET", f"/globalTag/{quote(tag, safe='')}/globalTagPayloads")
        return {_named(item["payloadId"]): iov["payloadIovId"] for item in listed for iov in item["payloadIovs"]}

    def valid(self, tag: str, exp: int, run: int) -> set[tuple[str, int]]:
        """(name, revision) of what is valid in a run, asked for as jobs do."""
        query = f"gtName={quote(tag, safe='')}&expNumber={exp}&runNumber={run}"
        return {_named(item["payload"]) for item in self.ask("GET", f"/iovPayloads/?{query}")}


def mixed(*parts: tuple[str, bytes, str]) -> tuple[bytes, str]:
    """A body of multipart/mixed, and its Content-Type, of (name, content, type)."""
    boundary = "0123456789abcdef"
    lines = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\nContent-Type: {kind}\r\n\r\n'.encode()
        + content
        + b"\r\n"
        for name, content, kind in parts
    ]
    return b"".join(lines) + f"--{boundary}--\r\n".encode(), f"multipart/mixed; boundary={boundary}"


def _named(payload: dict[str, Any]) -> tuple[str, int]:
    return payload["basf2Module"]["name"], payload["revision"]


def _iov(iov: dict[str, Any]) -> tuple[int, int, int, int]:
    return iov["expStart"], iov["runStart"], iov["expEnd"], iov["runEnd"]

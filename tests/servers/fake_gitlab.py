"""A GitLab of the tests: REST v4 over real HTTP, as far as issues need it. What it holds outlives its restarts."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode

from requests_toolbelt.multipart import decoder
from servers.faults import Faults
from servers.threaded import ThreadedServer
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

PROJECT, PROJECT_ID = "belle2/calibration", "7"
LONGEST_TITLE = 255


@dataclass
class FakeIssue:
    """An issue; ``notes`` and ``links`` are numbers of others or texts, in the order they were made."""

    iid: int
    title: str
    description: str
    labels: list[str]
    assignees: list[str]
    state: str = "opened"
    notes: list[str] = field(default_factory=list)
    links: list[int] = field(default_factory=list)


class Refused(Exception):  # noqa: N818 (it is an answer)
    """The request gets this status."""

    def __init__(self, status: int, message: object) -> None:
        super().__init__(status)
        self.answer = JSONResponse({"message": message}, status)


@dataclass(frozen=True)
class Call:
    """A request that was let in."""

    method: str
    address: str
    query: Mapping[str, str]
    body: bytes
    kind: str

    @property
    def fields(self) -> dict[str, Any]:
        return dict(json.loads(self.body or b"{}"))


class FakeGitLab:
    """One server with one project.

    Args:
        users: accounts that there are.
    """

    def __init__(self, users: Sequence[str] = ("ada", "ben", "mia")) -> None:
        self.token, self.reader = "glpat-of-the-tests-0123456789", "glpat-that-only-reads-987654"
        self.issues: list[FakeIssue] = []
        self.uploads: dict[str, bytes] = {}
        self.faults = Faults(self._serve)
        self._users = tuple(users)
        self._server = ThreadedServer(self.faults)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.port}"

    def stop(self) -> None:
        """Take the server away; nothing listens then."""
        self._server.stop()

    def start(self) -> None:
        """Bring it back where it was."""
        self._server = ThreadedServer(self.faults, self._server.port)

    def counted(self, method: str) -> int:
        """The requests of this method that were served since the last ``reset`` of the faults."""
        return len(self.faults.served(method, ""))

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = self._answer(await _call(scope, receive), scope)
        except Refused as refused:
            answer = refused.answer
        await answer(scope, receive, send)

    def _answer(self, call: Call, scope: Scope) -> Response:
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        token = headers.get("private-token", "")
        if token not in {self.token, self.reader}:
            raise Refused(401, "401 Unauthorized")
        if token == self.reader and call.method != "GET":
            raise Refused(403, "403 Forbidden")
        path = scope["raw_path"].decode()
        if path == "/api/v4/users":
            return self._accounts(call)
        found = re.fullmatch(r"/api/v4/projects/([^/]+)(?:/(uploads|issues)(?:/(\d+))?(?:/(notes|links))?)?", path)
        if found is None:
            raise Refused(404, "404 Not Found")
        if unquote(found[1]) not in {PROJECT, PROJECT_ID}:
            raise Refused(404, "404 Project Not Found")
        return self._of_project(call, found[2], found[3], found[4])

    def _of_project(self, call: Call, what: str | None, iid: str | None, part: str | None) -> Response:
        if what is None:
            return JSONResponse({"id": int(PROJECT_ID), "path_with_namespace": PROJECT})
        if what == "uploads":
            return self._upload(call)
        if iid is None:
            return self._list(call) if call.method == "GET" else self._create(call)
        issue = self._issue(int(iid))
        if part == "notes":
            return self._notes(issue, call)
        if part == "links":
            return self._links(issue, call)
        return self._one(issue, call)

    def _accounts(self, call: Call) -> Response:
        found = [name for name in self._users if name == call.query.get("username", name)]
        return _page([{"id": 100 + self._users.index(name), "username": name} for name in found], call)

    def _issue(self, iid: int) -> FakeIssue:
        for issue in self.issues:
            if issue.iid == iid:
                return issue
        raise Refused(404, "404 Issue Not Found")

    def _list(self, call: Call) -> Response:
        labels = set(filter(None, call.query.get("labels", "").split(",")))
        words = set(_words(call.query.get("search", "")))
        inside = call.query.get("in", "title,description").split(",")
        found = [
            issue
            for issue in self.issues
            if labels <= set(issue.labels) and words <= set(_words(" ".join(getattr(issue, name) for name in inside)))
        ]
        newest_first = call.query.get("sort", "desc") == "desc"
        found.sort(key=lambda issue: issue.iid, reverse=newest_first)
        return _page([self._shown(issue) for issue in found], call)

    def _create(self, call: Call) -> Response:
        fields = call.fields
        _check_title(fields.get("title"))
        issue = FakeIssue(
            len(self.issues) + 1,
            fields["title"],
            fields.get("description", ""),
            _labels(fields.get("labels", [])),
            self._named(fields.get("assignee_ids", [])),
        )
        self.issues.append(issue)
        return JSONResponse(self._shown(issue), 201)

    def _one(self, issue: FakeIssue, call: Call) -> Response:
        if call.method == "PUT":
            fields = call.fields
            _check_title(fields.get("title", issue.title))
            issue.title = fields.get("title", issue.title)
            issue.description = fields.get("description", issue.description)
            issue.labels += [label for label in _labels(fields.get("add_labels", [])) if label not in issue.labels]
            issue.labels = [label for label in issue.labels if label not in _labels(fields.get("remove_labels", []))]
            if "assignee_ids" in fields:
                issue.assignees = self._named(fields["assignee_ids"])
            issue.state = {"close": "closed", "reopen": "opened"}.get(fields.get("state_event", ""), issue.state)
        return JSONResponse(self._shown(issue))

    def _notes(self, issue: FakeIssue, call: Call) -> Response:
        if call.method == "GET":
            return _page([{"id": n, "body": body} for n, body in enumerate(issue.notes, 1)], call)
        issue.notes.append(call.fields["body"])
        return JSONResponse({"id": len(issue.notes), "body": issue.notes[-1]}, 201)

    def _links(self, issue: FakeIssue, call: Call) -> Response:
        if call.method == "GET":
            return _page([self._shown(self._issue(iid)) for iid in issue.links], call)
        if str(call.fields["target_project_id"]) not in {PROJECT, PROJECT_ID}:
            raise Refused(404, "404 Project Not Found")
        target = self._issue(int(call.fields["target_issue_iid"]))
        if target.iid in issue.links:
            raise Refused(409, "Issue(s) already assigned")
        issue.links.append(target.iid)
        target.links.append(issue.iid)
        return JSONResponse({"source_issue": self._shown(issue), "target_issue": self._shown(target)}, 201)

    def _upload(self, call: Call) -> Response:
        files = {
            found[1].decode(): part.content
            for part in decoder.MultipartDecoder(call.body, call.kind).parts
            if (found := re.search(rb'filename="([^"]+)"', part.headers[b"Content-Disposition"]))
        }
        if len(files) != 1:
            raise Refused(400, "file is invalid")
        ((name, content),) = files.items()
        url = f"/uploads/{len(self.uploads):032x}/{name}"
        self.uploads[url] = content
        return JSONResponse({"url": url, "markdown": f"![{name}]({url})"}, 201)

    def _named(self, ids: Sequence[int]) -> list[str]:
        return [self._users[number - 100] for number in ids]

    def _shown(self, issue: FakeIssue) -> dict[str, Any]:
        return {
            "id": 1000 + issue.iid,
            "iid": issue.iid,
            "project_id": int(PROJECT_ID),
            "title": issue.title,
            "description": issue.description,
            "labels": issue.labels,
            "state": issue.state,
            "assignees": [{"id": 100 + self._users.index(name), "username": name} for name in issue.assignees],
            "web_url": f"{self.url}/{PROJECT}/-/issues/{issue.iid}",
        }


async def _call(scope: Scope, receive: Receive) -> Call:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    query = {name: values[-1] for name, values in parse_qs(scope["query_string"].decode()).items()}
    headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
    address = f"http://{headers['host']}{scope['raw_path'].decode()}"
    return Call(scope["method"], address, query, body, headers.get("content-type", ""))


def _page(rows: Sequence[dict[str, Any]], call: Call) -> Response:
    """One page, with the headers that say where the others are."""
    page, size = int(call.query.get("page", 1)), min(int(call.query.get("per_page", 20)), 100)
    pages = max(1, -(-len(rows) // size))
    headers = {"X-Page": page, "X-Per-Page": size, "X-Total": len(rows), "X-Total-Pages": pages}
    headers["X-Next-Page"] = page + 1 if page < pages else ""
    answer = JSONResponse(rows[(page - 1) * size : page * size], headers={k: str(v) for k, v in headers.items()})
    if page < pages:
        following = urlencode({**call.query, "page": page + 1})
        answer.headers["Link"] = f'<{call.address}?{following}>; rel="next"'
    return answer


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def _labels(value: str | list[str]) -> list[str]:
    return [label for label in (value.split(",") if isinstance(value, str) else value) if label]


def _check_title(title: object) -> None:
    if not isinstance(title, str) or not 0 < len(title) <= LONGEST_TITLE:
        raise Refused(400, {"title": ["is too long (maximum is 255 characters)"]})

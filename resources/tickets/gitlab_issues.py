"""Tickets as issues of a GitLab project. An issue is found again by a word in its text that only its ticket has.

Whatever is done here may be broken off and asked for again: an issue, a link or a comment that is there is not made
twice, and a plot that was uploaded is found in the text of its issue. What people add stays.
"""

import hashlib
import re
from collections.abc import Iterable
from typing import Any

from gitlab.exceptions import GitlabCreateError, GitlabGetError
from gitlab.v4.objects import ProjectIssue

from b2cal_core.ports import TicketSystem
from b2cal_core.situations import Plot, WorkState
from b2cal_core.tickets import Remark, Ticket, TicketReference
from resources.secret_values import Secret
from resources.tickets.gitlab_calls import ABSENT, EXISTS, GitLabProject

LABEL = "b2cal"
_STATE = "b2cal::"
_STATES = frozenset(f"{_STATE}{state.value}" for state in WorkState)
_PLOT = re.compile(r"<!-- plot ([0-9a-f]{32}) -->\n(.+)")
_LARGEST_PLOT = 5_000_000
_LONGEST_TITLE = 255


class GitLabTickets(TicketSystem):
    """The issues of one project.

    Args:
        server: address of the GitLab.
        project: with its groups.
        token: with the scope ``api``.
    """

    def __init__(self, server: str, project: str, token: Secret) -> None:
        self._gitlab = GitLabProject(server, project, token)

    def check(self) -> str:
        """The address of the project's issues, once the token was seen to reach them."""
        with self._gitlab.telling():
            self._gitlab.project.issues.list(labels=[LABEL], per_page=1, page=1, get_all=False)
        return f"{self._gitlab.server}/{self._gitlab.path}/-/issues"

    def unknown(self, accounts: Iterable[str]) -> tuple[str, ...]:
        """The accounts that the server has not."""
        with self._gitlab.telling():
            return tuple(account for account in accounts if self._user(account) is None)

    def keep(self, ticket: Ticket, known: TicketReference | None = None) -> TicketReference:
        """Make the issue, or make the one that there is equal to the ticket."""
        with self._gitlab.telling():
            issue = self._known(ticket, known) or self._found(ticket) or self._made(ticket)
            self._link(issue, ticket.parent)
            if ticket.remark is not None:
                self._remark(issue, ticket.remark)
            self._update(issue, ticket)
            return TicketReference(str(issue.iid), str(issue.web_url))

    def _known(self, ticket: Ticket, known: TicketReference | None) -> ProjectIssue | None:
        if known is None:
            return None
        try:
            issue = self._gitlab.project.issues.get(int(known.id))
        except GitlabGetError as error:
            if error.response_code == ABSENT:
                return None
            raise
        return issue if _marker(ticket.key) in (issue.description or "") else None

    def _found(self, ticket: Ticket) -> ProjectIssue | None:
        """The oldest issue of the ticket. The word is looked for alone, as a search by words has it."""
        wanted = {"search": _word(ticket.key), "in": "description", "order_by": "created_at", "sort": "asc"}
        issues = self._gitlab.project.issues.list(query_parameters=wanted, iterator=True)
        return next((issue for issue in issues if _marker(ticket.key) in (issue.description or "")), None)

    def _made(self, ticket: Ticket) -> ProjectIssue:
        fields: dict[str, Any] = {
            "title": _title(ticket),
            "description": _description(ticket, {}),
            "labels": [LABEL, f"{_STATE}{ticket.state.value}", *ticket.labels],
        }
        user = self._user(ticket.assignee)
        return self._gitlab.project.issues.create(fields | ({"assignee_ids": [user]} if user else {}))

    def _user(self, account: str) -> int | None:
        """The number of an account; ``None`` when there is none, and then nobody is assigned."""
        users = self._gitlab.client.users.list(username=account, get_all=False) if account else []
        return next((user.id for user in users), None)

    def _link(self, issue: ProjectIssue, parent: str) -> None:
        if not parent:
            return
        try:
            issue.links.create({"target_project_id": issue.project_id, "target_issue_iid": parent})
        except GitlabCreateError as error:
            if error.response_code != EXISTS:
                raise

    def _remark(self, issue: ProjectIssue, remark: Remark) -> None:
        marker = f"<!-- b2cal remark {remark.key} -->"
        if not any(marker in note.body for note in issue.notes.list(iterator=True)):
            issue.notes.create({"body": f"{remark.text}\n\n{marker}"})

    def _update(self, issue: ProjectIssue, ticket: Ticket) -> None:
        """Change what differs, all of it in one call."""
        changes: dict[str, Any] = {}
        description = _description(ticket, self._uploaded(ticket, issue.description or ""))
        if issue.description != description:
            changes["description"] = description
        if issue.title != _title(ticket):
            changes["title"] = _title(ticket)
        if (issue.state == "closed") != ticket.done:
            changes["state_event"] = "close" if ticket.done else "reopen"
        changes |= _label_changes(issue.labels, ticket)
        if not issue.assignees and ticket.assignee and (user := self._user(ticket.assignee)):
            changes["assignee_ids"] = [user]
        if changes:
            self._gitlab.project.issues.update(issue.iid, changes)

    def _uploaded(self, ticket: Ticket, text: str) -> dict[str, str]:
        """Digest of a plot to the Markdown that shows it; those that the text has are not uploaded again."""
        there, shown = dict(_PLOT.findall(text)), {}
        for plot in ticket.plots:
            content = _content(plot)
            digest = hashlib.sha256(plot.name.encode() + b"\0" + content).hexdigest()[:32]
            if content:
                shown[digest] = there.get(digest) or self._upload(plot, content)
        return shown

    def _upload(self, plot: Plot, content: bytes) -> str:
        answer = self._gitlab.project.upload(f"{plot.name}.png", filedata=content)
        return " ".join(str(answer["markdown"]).split())


def _content(plot: Plot) -> bytes:
    """The picture; nothing when it is gone, or too large to be shown to people."""
    try:
        if plot.file.stat().st_size > _LARGEST_PLOT:
            return b""
        return plot.file.read_bytes()
    except OSError:
        return b""


def _description(ticket: Ticket, plots: dict[str, str]) -> str:
    shown = [f"<!-- plot {digest} -->\n{markdown}" for digest, markdown in plots.items()]
    return "\n\n".join([ticket.text, *shown, _marker(ticket.key)])


def _title(ticket: Ticket) -> str:
    return ticket.title[:_LONGEST_TITLE]


def _label_changes(labels: list[str], ticket: Ticket) -> dict[str, Any]:
    wanted = {LABEL, f"{_STATE}{ticket.state.value}", *ticket.labels}
    missing, others = sorted(wanted - set(labels)), sorted((_STATES - wanted) & set(labels))
    return ({"add_labels": missing} if missing else {}) | ({"remove_labels": others} if others else {})


def _word(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:20]


def _marker(key: str) -> str:
    return f"<!-- b2cal ticket {_word(key)} -->"

import re
import traceback
from collections.abc import Iterator
from dataclasses import replace

import pytest
from servers import faults
from servers.fake_gitlab import PROJECT, FakeGitLab
from ticket_system_contract import CHILD, PARENT, Shown, TicketSystemContract

from b2cal_core.errors import BackendError, CalibrationError, ConfigurationError
from b2cal_core.situations import Plot
from b2cal_core.tickets import TicketReference
from resources.secret_values import Secret
from resources.tickets.gitlab_issues import GitLabTickets

VARIABLE = "GITLAB_TOKEN_OF_THE_TESTS"
TOKEN = Secret(f"env:{VARIABLE}", "the token for GitLab")


@pytest.fixture
def gitlab(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGitLab]:
    server = FakeGitLab()
    monkeypatch.setenv(VARIABLE, server.token)
    yield server
    server.stop()


@pytest.fixture
def tickets(gitlab: FakeGitLab) -> GitLabTickets:
    return GitLabTickets(gitlab.url, PROJECT, TOKEN)


class TestGitLabTickets(TicketSystemContract):
    @pytest.fixture
    def tickets(self, gitlab: FakeGitLab) -> GitLabTickets:
        self.gitlab = gitlab
        return GitLabTickets(gitlab.url, PROJECT, TOKEN)

    def shown(self, reference: TicketReference) -> Shown:
        issue = self.gitlab.issues[int(reference.id) - 1]
        pictures = re.findall(r"!\[[^]]*]\(([^)]+)\)", issue.description)
        return Shown(
            issue.title,
            issue.description,
            frozenset(issue.labels),
            tuple(issue.assignees),
            done=issue.state == "closed",
            comments=tuple(issue.notes),
            pictures=tuple(self.gitlab.uploads[url] for url in pictures),
            related=tuple(map(str, issue.links)),
        )

    def number_of_tickets(self) -> int:
        return len(self.gitlab.issues)


def test_what_people_did_to_an_issue_stays(gitlab: FakeGitLab, tickets: GitLabTickets) -> None:
    reference = tickets.keep(CHILD)
    (issue,) = gitlab.issues
    issue.labels.append("of people")
    issue.assignees = ["ben"]
    issue.notes.append("I look at it.")
    tickets.keep(replace(CHILD, text="new"), reference)
    assert "of people" in issue.labels
    assert issue.assignees == ["ben"]
    assert "I look at it." in issue.notes


def test_an_issue_among_hundreds_that_quote_its_word_is_found(gitlab: FakeGitLab, tickets: GitLabTickets) -> None:
    reference = tickets.keep(CHILD)
    word = re.search(r"b2cal ticket (\w+)", gitlab.issues[0].description)
    assert word is not None
    original = gitlab.issues.pop()
    for number in range(1, 251):
        gitlab.issues.append(replace(original, iid=number, description=f"about {word[1]}"))
    gitlab.issues.append(replace(original, iid=251))
    assert tickets.keep(CHILD).id == "251"
    assert len(gitlab.issues) == 251
    assert reference.id == "1"


def test_nothing_is_changed_when_nothing_differs(gitlab: FakeGitLab, tickets: GitLabTickets) -> None:
    reference = tickets.keep(CHILD)
    gitlab.faults.reset()
    tickets.keep(CHILD, reference)
    assert gitlab.counted("GET") == 2
    assert gitlab.counted("PUT") + gitlab.counted("POST") == 0


@pytest.mark.parametrize("fault", [faults.lose_reply, faults.lose_request, faults.unavailable, faults.html_error])
def test_broken_off_at_any_call_and_asked_again_it_doubles_nothing(
    gitlab: FakeGitLab, tickets: GitLabTickets, tmp_path, fault
) -> None:
    (tmp_path / "p.png").write_bytes(b"\x89PNG")
    parent = tickets.keep(PARENT)
    child = replace(CHILD, parent=parent.id, plots=(Plot("p", tmp_path / "p.png"),), done=True)
    gitlab.faults.reset()
    expected = tickets.keep(child)
    calls = len(gitlab.faults.requests)
    whole = replace(gitlab.issues[-1])
    for number in range(calls):
        del gitlab.issues[1:]
        gitlab.issues[0].links.clear()
        gitlab.faults.at(number, fault)
        with pytest.raises(BackendError) as error:
            tickets.keep(child)
        assert error.value.transient
        gitlab.faults.reset()
        assert tickets.keep(child) == expected
        (issue,) = gitlab.issues[1:]
        assert (len(issue.notes), issue.links, issue.state) == (len(whole.notes), [1], "closed")
        assert issue.description.count("![") == 1


def test_a_server_that_is_away_is_told_as_passing(gitlab: FakeGitLab, tickets: GitLabTickets) -> None:
    gitlab.stop()
    with pytest.raises(BackendError, match="does not answer") as error:
        tickets.keep(CHILD)
    assert error.value.transient
    gitlab.start()
    assert tickets.keep(CHILD).id == "1"


@pytest.mark.parametrize(
    ("status", "kind", "transient"),
    [
        (401, ConfigurationError, None),
        (403, ConfigurationError, None),
        (404, ConfigurationError, None),
        (429, BackendError, True),
        (500, BackendError, True),
        (503, BackendError, True),
        (400, BackendError, False),
    ],
)
def test_a_status_says_who_acts(gitlab: FakeGitLab, tickets: GitLabTickets, status, kind, transient) -> None:
    gitlab.faults.at(0, faults.answering(status, b'{"message": "no"}', **{"retry-after": "600"}), times=9)
    with pytest.raises(kind) as error:
        tickets.keep(CHILD)
    assert getattr(error.value, "transient", None) is transient
    assert len(gitlab.faults.requests) == 1  # it is left to the caller when to ask again


@pytest.mark.parametrize("fault", [faults.html_page, faults.malformed, faults.empty])
def test_an_answer_that_is_none_is_told_as_passing(gitlab: FakeGitLab, tickets: GitLabTickets, fault) -> None:
    gitlab.faults.at(0, fault)
    with pytest.raises(BackendError, match="does not answer properly"):
        tickets.check()


def test_a_server_that_sends_us_elsewhere_is_not_followed(gitlab: FakeGitLab, tickets: GitLabTickets) -> None:
    tickets.keep(CHILD)
    moved = faults.answering(302, b"", location="http://127.0.0.1:9/")
    gitlab.faults.at(1, moved)
    with pytest.raises((ConfigurationError, BackendError)):
        tickets.keep(PARENT)


def test_the_token_is_told_to_nobody(
    gitlab: FakeGitLab, tickets: GitLabTickets, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    told = [repr(tickets), repr(vars(tickets)), repr(TOKEN)]
    for fault in (faults.unavailable, faults.lose_reply, faults.html_refusal, faults.html_absent, faults.malformed):
        gitlab.faults.at(0, fault)
        with pytest.raises(CalibrationError) as caught:
            tickets.keep(CHILD)
        told.append("".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()))
    assert gitlab.token not in "".join([*told, caplog.text])
    monkeypatch.setenv(VARIABLE, gitlab.reader)
    with pytest.raises(ConfigurationError, match="role Reporter"):
        GitLabTickets(gitlab.url, PROJECT, TOKEN).keep(CHILD)


def test_a_project_that_is_not_there_is_named(gitlab: FakeGitLab) -> None:
    with pytest.raises(ConfigurationError, match="no project belle2/nothing"):
        GitLabTickets(gitlab.url, "belle2/nothing", TOKEN).check()


def test_a_title_longer_than_gitlab_takes_is_cut(gitlab: FakeGitLab, tickets: GitLabTickets) -> None:
    reference = tickets.keep(replace(CHILD, title="x" * 300))
    assert len(gitlab.issues[int(reference.id) - 1].title) == 255

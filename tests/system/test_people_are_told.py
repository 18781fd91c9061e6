"""A running service tells people: mail arrives, tickets are made, filled with plots and closed, with nobody's help."""

from pathlib import Path

import pytest
import yaml
from servers.fake_gitlab import PROJECT, FakeGitLab
from servers.mail_server import MailServer
from service_home import prepare_home, running_service

TOLD_SECONDS = 800.0


@pytest.mark.system
@pytest.mark.timeout(1000)
def test_a_bucket_is_told_from_its_closing_to_its_publishing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gitlab, mail = FakeGitLab(), MailServer()
    monkeypatch.setenv("GITLAB_TOKEN_OF_THE_TESTS", gitlab.token)
    home = prepare_home(tmp_path / "home", runs=3, bucket_runs=3)
    address = home.path / "mail"
    address.touch(0o600)
    address.write_text(f"mailto://127.0.0.1:{mail.port}?from=b2cal@example.org&to=list@example.org&mode=insecure")
    settings = {
        "people": {"svd-expert": {"gitlab": "ada"}, "calibration-manager": {"gitlab": "mia"}},
        "notify": {"channels": {"mail": {"address": f"file:{address}"}}},
        "tickets": {"server": gitlab.url, "project": PROJECT, "token": "env:GITLAB_TOKEN_OF_THE_TESTS"},
        "dagster_address": "http://127.0.0.1:3000",
    }
    (home.path / "deployment.yaml").write_text(yaml.safe_dump(settings))
    with running_service(home) as service:
        service.wait_until(
            "the tickets are closed",
            lambda: len(gitlab.issues) == 3 and all(issue.state == "closed" for issue in gitlab.issues),
            seconds=TOLD_SECONDS,
        )
        service.wait_until("the mails", lambda: len(mail.mails) >= 2, seconds=60)
    gitlab.stop()
    mail.stop()
    bucket, *calibrations = gitlab.issues
    top, svd = sorted(calibrations, key=lambda issue: not issue.title.startswith("TOP common T0,"))
    assert [issue.assignees for issue in (bucket, svd, top)] == [["mia"], ["ada"], []]
    assert all("b2cal::published" in issue.labels for issue in gitlab.issues)
    assert all("![" in issue.description for issue in (svd, top))
    assert "Figures of merit" in svd.description
    assert all(content.startswith(b"\x89PNG") for content in gitlab.uploads.values())
    subjects = sorted(one.subject.rpartition("the bucket ")[2] for one in mail.mails)
    assert subjects == ["is closed", "is published in prompt_running"]

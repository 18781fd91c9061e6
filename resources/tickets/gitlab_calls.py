"""Calls to a GitLab server, and what their failures mean for people. A call is made once; callers ask again."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import gitlab
import requests
from gitlab.v4.objects import Project

from b2cal_core.errors import BackendError, ConfigurationError
from resources.secret_values import Secret

_SECONDS = 15.0
_UNAUTHORISED, _FORBIDDEN, _ABSENT, _TIMEOUT, _OVERLOADED, _BROKEN = 401, 403, 404, 408, 429, 500
ABSENT, EXISTS = 404, 409


class _OnceOnly(gitlab.Gitlab):
    """python-gitlab would sleep and ask again by itself while a server is overloaded, and a sensor has a minute."""

    def http_request(self, *args: Any, **options: Any) -> requests.Response:  # noqa: ANN401 (those of the library)
        return super().http_request(*args, **(options | {"obey_rate_limit": False, "retry_transient_errors": False}))


class GitLabProject:
    """One project on one server; it is looked for at the first call.

    Args:
        server: its address, for example ``https://gitlab.example.org``.
        project: with its groups, for example ``belle2/calibration``.
        token: of a user or of the project, with the scope ``api``.
    """

    def __init__(self, server: str, project: str, token: Secret) -> None:
        self.server, self.path, self._token = server.rstrip("/"), project, token

    @property
    def client(self) -> gitlab.Gitlab:
        """The client of the server."""
        return self._opened[0]

    @property
    def project(self) -> Project:
        """The project."""
        return self._opened[1]

    @cached_property
    def _opened(self) -> tuple[gitlab.Gitlab, Project]:
        client = _OnceOnly(
            self.server, private_token=self._token.read(), timeout=_SECONDS, per_page=100, keep_base_url=True
        )
        return client, client.projects.get(self.path)  # by number: paths are escaped twice in uploads

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Failures of calls in this block are told in words, without the token.

        Raises:
            ConfigurationError: the token or the address is no good.
            BackendError: the server does not answer, is overloaded, or refuses what it was given.
        """
        try:
            yield
        except (requests.RequestException, gitlab.exceptions.GitlabParsingError) as error:
            raise BackendError(
                f"GitLab at {self.server} does not answer properly ({type(error).__name__}); tried again later",
                transient=True,
            ) from None
        except gitlab.exceptions.RedirectError:
            raise ConfigurationError(
                f"GitLab at {self.server} sends us elsewhere; give tickets.server as it is in a browser"
            ) from None
        except gitlab.exceptions.GitlabError as error:
            raise self._in_words(error) from None

    def _in_words(self, error: gitlab.exceptions.GitlabError) -> ConfigurationError | BackendError:
        code = error.response_code or 0
        where = f"GitLab at {self.server}"
        if code in {_UNAUTHORISED, _FORBIDDEN}:
            return ConfigurationError(
                f"{where} refuses our token for {self.path} (status {code}); give it a valid one with the scope api"
                f" and the role Reporter or higher: {self._token.source}"
            )
        if code == _ABSENT:
            return ConfigurationError(f"{where} has no project {self.path}, or our token must not see it")
        if code in {_TIMEOUT, _OVERLOADED} or code >= _BROKEN:
            return BackendError(f"{where} is overloaded or broken (status {code}); tried again later", transient=True)
        return BackendError(
            f"{where} refuses what we ask (status {code}: {str(error.error_message)[:300]}); report it", transient=False
        )

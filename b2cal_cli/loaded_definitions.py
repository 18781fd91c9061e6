"""What the servers of ``b2cal up`` have loaded, and loading it anew when campaigns changed."""

import json
import time
from collections.abc import Mapping
from typing import Any

import requests

from b2cal_assets.code_locations import SHARED, location_of
from b2cal_cli.code_servers import CodeServers
from b2cal_cli.output import tell
from b2cal_core.campaign_states import CampaignState
from b2cal_core.errors import BackendError
from resources.campaigns.files import FileCampaignStore
from resources.home import Home

_LOOK_SECONDS = 2.0
_LOAD_SECONDS = 120.0
_ERROR = "... on PythonError {message}"
_RELOAD = f"""
mutation($name: String!) {{
  answer: reloadRepositoryLocation(repositoryLocationName: $name) {{
    __typename
    ... on WorkspaceLocationEntry {{name locationOrLoadError {{__typename {_ERROR}}}}}
    ... on RepositoryLocationNotFound {{message}}
    ... on ReloadNotSupported {{message}}
    {_ERROR}
  }}
}}
"""
_RELOAD_ALL = f"""
mutation {{
  answer: reloadWorkspace {{
    __typename
    ... on Workspace {{locationEntries {{name locationOrLoadError {{__typename {_ERROR}}}}}}}
    {_ERROR}
  }}
}}
"""


class LoadedDefinitions:
    """What was loaded last: which locations, each as which campaigns made it.

    Args:
        home: whose campaigns are shown.
        apart: whether each campaign has a location of its own.
    """

    def __init__(self, home: Home, *, apart: bool) -> None:
        self._store, self._apart = FileCampaignStore(home), apart
        self._seen = ""
        self._loaded: Mapping[str, str] = {}
        self._looked = time.monotonic()

    def locations(self) -> tuple[str, ...]:
        """The locations there are to be, the shared one first; they count as loaded from now on."""
        self._loaded = self._fingerprints()
        return tuple(self._loaded)

    def follow(self, servers: CodeServers, address: str) -> None:
        """Look now and then whether campaigns changed, and have them loaded anew if so; say how that went.

        Args:
            servers: that are to show the locations there are.
            address: of the web server.
        """
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        try:
            found = self._fingerprints()
        except (BackendError, OSError):
            return  # the database does not answer just now, or a file was being replaced; the next look tells
        changed = [name for name in servers.listed if name in found and found[name] != self._loaded[name]]
        self._loaded = found
        servers.want(found)
        if servers.update_workspace():  # then all are loaded anew
            tell(_load(address, _RELOAD_ALL))
            return
        for line in dict.fromkeys(_load(address, _RELOAD, name=name) for name in sorted(changed)):
            tell(line)

    def _fingerprints(self) -> Mapping[str, str]:
        """Location to what is another text whenever it is to be loaded anew; the shared one is there for all."""
        seen = self._store.fingerprint()
        if not self._apart:
            return {SHARED: seen}
        if seen == self._seen:
            return self._loaded
        shown = [name for name, state in self._store.states().items() if state is not CampaignState.archived]
        found = {location_of(name): self._store.fingerprint_of(name) for name in shown}
        self._seen = seen
        return {SHARED: "".join(found.values())} | found


def _load(address: str, mutation: str, **variables: str) -> str:
    """Have the web server load locations anew; returns how it went, for people."""
    query = json.dumps({"query": mutation, "variables": variables})
    try:
        reply = requests.post(
            f"{address}/graphql", query, headers={"Content-Type": "application/json"}, timeout=_LOAD_SECONDS
        )
        reply.raise_for_status()
        answer = reply.json()["data"]["answer"]
    except (requests.RequestException, ValueError, KeyError, TypeError) as error:
        return f"campaigns changed, but the web server did not load them: {error}; use Reload in its Deployment page"
    problem = "; ".join(_problems(answer))
    return f"campaigns changed, but could not be loaded: {problem}" if problem else "campaigns changed and are loaded"


def _problems(answer: Mapping[str, Any]) -> list[str]:
    """What went wrong in a mutation, one sentence for each location, or one for all."""
    if "message" in answer:
        return [answer["message"]]
    loaded = {entry["name"]: entry["locationOrLoadError"] or {} for entry in answer.get("locationEntries", [answer])}
    return [f"{name}: {_first_line(found['message'])}" for name, found in loaded.items() if "message" in found]


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]

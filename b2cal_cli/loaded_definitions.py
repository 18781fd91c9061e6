"""What the servers of ``b2cal up`` have loaded, and loading it anew when campaigns changed."""

import json
import time
from pathlib import Path

import requests
import yaml

from b2cal_cli.output import tell
from b2cal_core.errors import BackendError
from resources.campaigns.files import FileCampaignStore
from resources.home import Home

LOCATION = "b2cal"
SOCKET = "code"
_LOOK_SECONDS = 2.0
_LOAD_SECONDS = 120.0
_RELOAD = """
mutation($name: String!) {
  reloadRepositoryLocation(repositoryLocationName: $name) {
    __typename
    ... on WorkspaceLocationEntry {locationOrLoadError {__typename ... on PythonError {message}}}
    ... on RepositoryLocationNotFound {message}
    ... on ReloadNotSupported {message}
    ... on PythonError {message}
  }
}
"""


class LoadedDefinitions:
    """What was loaded last.

    Args:
        home: whose campaigns are shown.
        address: of the web server.
    """

    def __init__(self, home: Home, address: str) -> None:
        self._store = FileCampaignStore(home)
        self._address = address
        self._loaded = self._store.fingerprint()
        self._looked = time.monotonic()

    def follow(self) -> None:
        """Look now and then whether campaigns changed, and have them loaded anew if so; say how that went."""
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        try:
            found = self._store.fingerprint()
        except (BackendError, OSError):
            return  # the database does not answer just now, or a file was being replaced; the next look tells
        if found != self._loaded:
            self._loaded = found
            tell(self._reload())

    def _reload(self) -> str:
        """Returns how it went, for people."""
        query = json.dumps({"query": _RELOAD, "variables": {"name": LOCATION}})
        try:
            reply = requests.post(
                f"{self._address}/graphql", query, headers={"Content-Type": "application/json"}, timeout=_LOAD_SECONDS
            )
            reply.raise_for_status()
            answer = reply.json()["data"]["reloadRepositoryLocation"]
        except (requests.RequestException, ValueError, KeyError, TypeError) as error:
            return (
                f"campaigns changed, but the web server did not load them: {error}; use Reload in its Deployment page"
            )
        problem = answer.get("message") or (answer.get("locationOrLoadError") or {}).get("message")
        return (
            f"campaigns changed, but could not be loaded: {problem}" if problem else "campaigns changed and are loaded"
        )


def write_workspace(directory: Path) -> Path:
    """Write where web server and daemon find the code server whose socket is in the directory; returns the file."""
    server = {"grpc_server": {"socket": str(directory / SOCKET), "location_name": LOCATION}}
    file = directory / "workspace.yaml"
    file.write_text(yaml.safe_dump({"load_from": [server]}), encoding="utf-8")
    return file

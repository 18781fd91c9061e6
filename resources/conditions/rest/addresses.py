"""Which servers may be asked: this computer's own, and those that the deployment names."""

import ipaddress
from collections.abc import Set as AbstractSet
from urllib.parse import SplitResult, urlsplit, urlunsplit

from b2cal_core.errors import ConfigurationError

_DEFAULT_PATH = "/b2s/rest"


def checked_server(server: str, allowed_hosts: AbstractSet[str]) -> str:
    """The address below which the calls are, without a slash at its end; a bare host gets the usual path.

    Raises:
        ConfigurationError: it is no http or https address, carries a user or password, or its host may not be asked.
    """
    parts = _checked(server, allowed_hosts)
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") or _DEFAULT_PATH, "", ""))


def checked_file(url: str, allowed_hosts: AbstractSet[str]) -> str:
    """The address of a file, by https unless it is on this computer; ``ConfigurationError`` as ``checked_server``."""
    parts = urlsplit(url)
    if parts.scheme == "http" and not is_loopback(_host(parts)):
        url = urlunsplit(parts._replace(scheme="https"))
    return urlunsplit(_checked(url, allowed_hosts))


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this computer."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _checked(url: str, allowed_hosts: AbstractSet[str]) -> SplitResult:
    parts = urlsplit(url)
    host = _host(parts)
    if parts.scheme not in {"http", "https"} or not host:
        raise ConfigurationError(f"a conditions server has an address like https://host/b2s/rest, got {parts.scheme}:…")
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(
            f"the address of {host} has a user or password in it; leave them out, use a token file"
        )
    if is_loopback(host):
        return parts
    if host not in {allowed.lower() for allowed in allowed_hosts}:
        raise ConfigurationError(
            f"{host} is not this computer and not among the hosts that the deployment allows"
            f" ({', '.join(sorted(allowed_hosts)) or 'none'}); nothing was sent. Name it there if it is meant"
        )
    if parts.scheme != "https":
        raise ConfigurationError(
            f"{host} is asked over https only, since a token would be readable; change the address"
        )
    return parts


def _host(parts: SplitResult) -> str:
    try:
        _ = parts.port
        return (parts.hostname or "").lower()
    except ValueError:
        return ""

"""Where a Realtime service is and what it wants to see: a URL and one header.

Three forms: OpenAI's own and every service that copies it (``Authorization: Bearer``), and Azure's
(``api-key``, the deployment as the model). A key may be an ephemeral one (``ek_…``): it goes the
same way, also to Azure.

A key is never part of the URL, and `without_key` takes it out of everything that is shown.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit, urlunsplit

from framepipe.errors import LocalProtocolError

OPENAI_URL: Final = "wss://api.openai.com/v1/realtime"
"""Where the service is, unless the caller says otherwise."""

OPENAI_MODEL: Final = "gpt-realtime-2.1"
"""The current speech model, November 2026."""

KEY_VARIABLES: Final = {"openai": "OPENAI_API_KEY", "azure": "AZURE_OPENAI_API_KEY"}
"""Where the key is looked for."""

_SCHEMES: Final = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
_SECRETS: Final = ("key", "token", "secret", "sig")


def realtime_url(url: str | None = None, *, base_url: str | None = None, model: str = "") -> str:
    """The URL of a session.

    Args:
        url: The whole of it but for the model; or ``None``.
        base_url: What other clients of the service are given, as in ``https://host/v1``.
        model: Goes into the query, unless that names one.

    Raises:
        LocalProtocolError: Both are given, or it is no URL of a WebSocket.
    """
    if url is not None and base_url is not None:
        raise LocalProtocolError("url and base_url are both given; give one of them")
    parts = urlsplit(url or base_url or OPENAI_URL)
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.hostname or not _has_possible_port(parts):
        raise LocalProtocolError(
            f"{hidden(url or base_url or '')!r} is no URL of a service; write wss://host/path, or wss://host:port/path"
        )
    path = parts.path
    if base_url is not None:
        if is_azure(base_url) and "/openai" not in path:
            path = "/openai/v1"
        path = f"{path.rstrip('/')}/realtime"
    query = parts.query
    if model and "model=" not in query:
        query = "&".join(filter(None, (query, urlencode({"model": model}))))
    return urlunsplit((scheme, parts.netloc, path, query, ""))


def azure_url(resource: str) -> str:
    """The URL of an Azure resource; the deployment is the ``model``.

    Args:
        resource: Its name, as in ``https://NAME.openai.azure.com``.
    """
    return f"wss://{resource}.openai.azure.com/openai/v1/realtime"


def is_azure(url: str) -> bool:
    """Whether a URL leads to Azure."""
    return (urlsplit(url).hostname or "").endswith(".azure.com")


def key_variable(url: str) -> str:
    """The environment variable that holds the key for a URL."""
    return KEY_VARIABLES["azure" if is_azure(url) else "openai"]


def headers(url: str, key: str | None) -> Mapping[str, str]:
    """What the opening request carries."""
    if not key:
        return {}
    if is_azure(url) and not key.startswith("ek_"):
        return {"api-key": key}
    return {"Authorization": f"Bearer {key}"}


def hidden(url: str) -> str:
    """A URL that may be shown: passwords and what the query keeps secret are dots."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    if any(_is_secret(name) for name, _ in pairs):
        shown = [(name, "…" if _is_secret(name) else value) for name, value in pairs]
        return urlunsplit(parts._replace(netloc=host, query=urlencode(shown, safe="…")))
    return urlunsplit(parts._replace(netloc=host))


def without_key(text: str, *keys: str | None) -> str:
    """A text that may be shown: every key in it is dots."""
    for key in keys:
        if key:
            text = text.replace(key, "…")
    return text


class ServiceAddress:
    """Where a service is and the key to it; the key leaves it in the opening request only.

    Args:
        url: From `realtime_url`.
        key: ``None`` takes it from the environment, when it is needed.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url = url
        self._key = key

    def __repr__(self) -> str:
        return f"ServiceAddress({hidden(self.url)!r})"

    @property
    def host(self) -> str:
        """The host, with its port where it has one."""
        return urlsplit(self.url).netloc.rpartition("@")[2] or self.url

    @property
    def variable(self) -> str:
        """The environment variable that holds the key."""
        return key_variable(self.url)

    @property
    def has_key(self) -> bool:
        """Whether there is a key at all."""
        return bool(self._key or os.environ.get(self.variable))

    @property
    def headers(self) -> Mapping[str, str]:
        """What the opening request carries."""
        return headers(self.url, self._key or os.environ.get(self.variable))

    def without_key(self, text: str) -> str:
        """A text that may be shown."""
        return without_key(text, self._key, os.environ.get(self.variable))


def _has_possible_port(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:  # no number, or above 65535
        return False


def _is_secret(name: str) -> bool:
    return any(word in name.lower() for word in _SECRETS)

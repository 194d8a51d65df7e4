"""URLs of the replicas of a server, and the choice of the next replica to ask: round robin over those that answer."""

import time
from collections.abc import Collection, Sequence
from urllib.parse import urlsplit


class Replicas:
    """
    Replicas of a server. Not thread-safe.

    Args:
        urls (sequence of `str`):
            URL of each replica, at least one.
        set_aside (`float`):
            Number of seconds for which a replica that cannot be reached is not asked. Then one request tries it. The
            others use it only after it has answered, so that a dead replica does not delay all of them.
    """

    def __init__(self, urls: Sequence[str], set_aside: float):
        self._urls = list(urls)
        self._seconds = set_aside
        self._due: dict[str, float] = {}  # when a replica that was set aside is tried again

    def next(self, tried: Collection[str] = ()) -> str:
        """
        Return the replica to ask now.

        Args:
            tried (collection of `str`):
                URLs at which this request failed. Others are preferred.

        Returns:
            `str`: URL of the next replica in turn that is not set aside. If all are set aside, the one that is due
            first.
        """
        ready = self._ready() or [min(self._urls, key=lambda url: self._due[url])]
        url = next((url for url in ready if url not in tried), ready[0])
        self._urls.remove(url)
        self._urls.append(url)
        if url in self._due:
            self._due[url] = time.monotonic() + self._seconds
        return url

    def has_another(self, tried: Collection[str]) -> bool:
        """Return whether a replica is neither tried nor set aside."""
        return any(url not in tried for url in self._ready())

    def set_aside(self, url: str) -> bool:
        """Set a replica aside from now on. Return `False` if it was set aside already."""
        is_new = url not in self._due
        self._due[url] = time.monotonic() + self._seconds
        return is_new

    def restore(self, url: str) -> None:
        """Use a replica again, because it answered."""
        self._due.pop(url, None)

    def _ready(self) -> list[str]:
        """Return the replicas in use or due for a trial. The one asked longest ago comes first."""
        now = time.monotonic()
        return [url for url in self._urls if self._due.get(url, now) <= now]


def checked_urls(urls: str | Sequence[str]) -> tuple[str, ...]:
    """
    Check the URLs of the replicas of a server.

    Args:
        urls (`str` or sequence of `str`):
            One URL or several.

    Returns:
        `tuple[str, ...]`: each different URL once, without a trailing `/retrieve`.

    Raises:
        `TypeError`: if `urls` contains anything other than strings.
        `ValueError`: if there is no URL, or if a URL is not like `http://host:8000`.
    """
    listed = [urls] if isinstance(urls, str) else list(urls)
    if not listed:
        raise ValueError("urls is empty. Pass the URL of at least one server, such as 'http://localhost:8000'.")
    return tuple(dict.fromkeys(map(_checked_url, listed)))


def _checked_url(url: str) -> str:
    if not isinstance(url, str):
        raise TypeError(f"urls contains {url!r}. Every URL must be a string.")
    try:
        parts = urlsplit(url)
        name = (parts.hostname or "").encode("idna")
        is_usable = parts.scheme in ("http", "https") and bool(name) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or "@" in url or "?" in url or "#" in url or not url.isprintable() or " " in url:
        shown = url.rpartition("@")[2]  # a password may precede the host
        raise ValueError(f"urls contains {shown!r}. Pass a URL like 'http://localhost:8000', and secrets in `token`.")
    return url.rstrip("/").removesuffix("/retrieve").rstrip("/")

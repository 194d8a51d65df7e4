"""Which replica of a server is asked next: round robin over those that answer."""

import time
from collections.abc import Collection, Sequence


class Replicas:
    """
    The replicas of a server, and which of them are set aside.

    It holds no lock: it belongs to one thread.

    Args:
        urls (sequence of `str`):
            One URL for each replica, at least one.
        set_aside (`float`):
            For how many seconds a replica that cannot be reached is not asked. After that one request tries it; the
            others stay away until it has answered, so that a dead replica does not hold all of them up.
    """

    def __init__(self, urls: Sequence[str], set_aside: float):
        self._urls = list(urls)
        self._seconds = set_aside
        self._due: dict[str, float] = {}  # when a replica that was set aside is tried again

    def next(self, tried: Collection[str] = ()) -> str:
        """
        The replica to ask now.

        Args:
            tried (collection of `str`):
                URLs that this request failed at: others are preferred.

        Returns:
            `str`: the URL of the next replica in turn that is not set aside; if all are, of the one that is due first.
        """
        ready = self._ready() or [min(self._urls, key=lambda url: self._due[url])]
        url = next((url for url in ready if url not in tried), ready[0])
        self._urls.remove(url)
        self._urls.append(url)
        if url in self._due:
            self._due[url] = time.monotonic() + self._seconds
        return url

    def has_another(self, tried: Collection[str]) -> bool:
        """Whether a replica that is not set aside is not among the `tried` ones."""
        return any(url not in tried for url in self._ready())

    def set_aside(self, url: str) -> bool:
        """Set a replica aside from now on, and return whether it was not so before."""
        is_new = url not in self._due
        self._due[url] = time.monotonic() + self._seconds
        return is_new

    def restore(self, url: str) -> None:
        """Take a replica that answered back into the round."""
        self._due.pop(url, None)

    def _ready(self) -> list[str]:
        """Those in use or due for a trial, the one that was asked longest ago first."""
        now = time.monotonic()
        return [url for url in self._urls if self._due.get(url, now) <= now]

"""Names under which a local server may be asked.

A web page can point its own name at 127.0.0.1 (DNS rebinding) and then read what a server on this machine answers. The
`Host` header still has the name of the page, so a server that only answers to known names is safe.
"""

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit


def host_name(header: str) -> str | None:
    """
    Read the name or address in a `Host` header.

    Args:
        header (`str`):
            Value of the header, with or without a port.

    Returns:
        `str` or `None`: the name in lower case, without a final dot, port and brackets. `None` if the header is
        malformed.
    """
    if not header or not header.isascii() or not header.isprintable() or set(header) & set("/?#@\\ "):
        return None
    try:
        parts = urlsplit(f"//{header}")
        _ = parts.port  # raises if it is not a number
    except ValueError:
        return None
    return (parts.hostname or "").rstrip(".") or None


def is_loopback(name: str) -> bool:
    """Whether a host name always means this machine: `localhost`, 127.0.0.0/8 or ::1."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def check_allowed_hosts(allowed_hosts: Sequence[str], name: str = "allowed_hosts") -> tuple[str, ...]:
    """
    Check host names that a user allows.

    Args:
        allowed_hosts (sequence of `str`):
            Host names or addresses without ports, such as `"node-1"`. `"*.example.com"` allows all names that end in
            `.example.com`, and `"*"` all names.
        name (`str`, *optional*, defaults to `"allowed_hosts"`):
            Name of the argument in the error message.

    Returns:
        `tuple[str, ...]`: the names as [`host_name`] writes them.

    Raises:
        `ValueError`: if a name has a port, a scheme or other characters that a host name cannot have.
    """
    return tuple(_checked(host, name) for host in allowed_hosts)


def is_allowed(name: str, allowed_hosts: Sequence[str]) -> bool:
    """
    Compare a host name with those that are allowed.

    Args:
        name (`str`):
            Return value of [`host_name`].
        allowed_hosts (sequence of `str`):
            Return value of [`check_allowed_hosts`].

    Returns:
        `bool`: `True` also for the names of this machine, see [`is_loopback`].
    """
    if is_loopback(name) or "*" in allowed_hosts or name in allowed_hosts:
        return True
    return any(name.endswith(allowed[1:]) for allowed in allowed_hosts if allowed.startswith("*."))


def _checked(host: str, name: str) -> str:
    if host == "*":
        return host
    star, bare = ("*.", host[2:]) if host.startswith("*.") else ("", host)
    bare = bare.strip("[]").rstrip(".").lower()
    if "*" in bare or host_name(f"[{bare}]" if ":" in bare else bare) != bare:
        raise ValueError(f"{name} has {host!r}. Pass a host name or an address without scheme and port, or `*`.")
    return star + bare

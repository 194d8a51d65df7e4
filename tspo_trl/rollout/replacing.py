"""Replaces a method of one object for a while."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced_method(owner: Any, name: str, method: Callable[..., Any]) -> Iterator[None]:
    """
    Have an object use another method within the context.

    Args:
        owner (`Any`):
            The object.
        name (`str`):
            Name of the method.
        method (`Callable`):
            What stands in its place.
    """
    own = vars(owner).get(name)  # FSDP gives the object itself a `generate`, which gathers weights
    setattr(owner, name, method)
    try:
        yield
    finally:
        if own is None:
            delattr(owner, name)  # the class's method shows again
        else:
            setattr(owner, name, own)

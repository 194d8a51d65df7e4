"""Which tests of the properties run in `make test`."""

import pytest

# For these it makes no difference which token pads.
SLOW = ("test_counts_of_searches_add_up", "test_cut_feedback_keeps_its_closing_tag")


def pytest_collection_modifyitems(items):
    for item in items:
        if item.name in [f"{name}[pad is eos]" for name in SLOW]:
            item.add_marker(pytest.mark.slow)

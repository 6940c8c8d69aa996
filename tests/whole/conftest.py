"""Everything here starts processes: marked `whole`, with 180 s each."""

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.whole)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(180))

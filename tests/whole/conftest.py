import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cango_portal.launcher.rabbitmq import RabbitMQ, find


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMQ]:
    if find() is None:
        pytest.skip("RabbitMQ is not installed")
    directory = Path(tempfile.mkdtemp(prefix="cango-"))
    made = RabbitMQ(directory)
    try:
        made.wait()
        yield made
    finally:
        made.stop()
        shutil.rmtree(directory, ignore_errors=True)

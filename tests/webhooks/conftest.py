from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from apps.webhooks import sending, services
from apps.webhooks.models import Endpoint
from tests import make
from tests.webhooks.receiver import Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def private(settings):
    """Webhooks may reach this machine."""
    settings.WEBHOOKS_ALLOW_PRIVATE = True


@pytest.fixture(autouse=True)
def _no_jitter(monkeypatch):
    monkeypatch.setattr(sending, "JITTER", 0)


@pytest.fixture
def hook(db, private, receiver):
    """An organization with one webhook that listens to everything, and its secret."""
    owner = make.user()
    organization = make.organization(owner=owner)
    endpoint, secret = services.create(
        organization=organization, url=receiver.url, description="orders", event_types=[], user=owner
    )

    def again() -> Endpoint:
        endpoint.refresh_from_db()
        return endpoint

    def notify(key: str = "k1", type: str = "balance.low", **data):
        return services.notify(organization=organization, type=type, data=data or {"balance_microusd": 1}, key=key)

    return SimpleNamespace(
        owner=owner, organization=organization, endpoint=endpoint, secret=secret, notify=notify, again=again
    )

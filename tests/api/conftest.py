import io
from types import SimpleNamespace

import pytest
from django.test import Client
from PIL import Image

from tests import make


@pytest.fixture(autouse=True)
def _storage(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "files"


class KeyClient(Client):
    """Calls with an API key, JSON in and out."""

    def __init__(self, secret: str = "") -> None:
        super().__init__(enforce_csrf_checks=True, raise_request_exception=False)
        self.secret = secret

    def generic(self, method, path, data="", content_type="application/octet-stream", secure=False, **extra):
        if self.secret:
            extra["headers"] = {"authorization": f"Bearer {self.secret}", **(extra.get("headers") or {})}
        return super().generic(method, path, data, content_type, secure, **extra)


@pytest.fixture
def shop(transactional_db):
    """An organization with $1, a key and an owner; models of each kind, without a site to run them."""
    owner = make.user()
    organization = make.organization(credit_microusd=1_000_000, owner=owner)
    key, secret = make.api_key(organization)
    return SimpleNamespace(
        organization=organization,
        owner=owner,
        key=key,
        secret=secret,
        client=KeyClient(secret),
        chat=make.model(name="acme/chat"),
        embeddings=make.model(kind="embeddings", name="acme/vectors", output=0),
        ocr=make.model(kind="ocr", name="acme/ocr", input=0, output=0, max_pages=2),
    )


@pytest.fixture
def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "white").save(out, "PNG")
    return out.getvalue()

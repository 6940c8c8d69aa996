"""The same files in a store that speaks S3: a server of moto's on the loopback, asked by the settings' own options."""

import os
import subprocess
import sys

import pytest
from django.conf import settings as portal
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from apps.core.errors import Unavailable
from apps.files import services, statements
from apps.files.models import File
from apps.files.services import open_lines, writer
from cango_portal import database
from tests import make

pytestmark = [pytest.mark.story, pytest.mark.django_db, pytest.mark.timeout(180)]  # moto's import alone takes seconds
ENVIRONMENT = {
    "STORAGE_BACKEND": "s3",
    "STORAGE_BUCKET": "portal-files",
    "STORAGE_REGION": "us-east-1",
    "STORAGE_ACCESS_KEY": "one",
    "STORAGE_SECRET_KEY": "two",
    "STORAGE_PREFIX": "files",
    "STORAGE_ADDRESSING_STYLE": "path",
}


@pytest.fixture(scope="module")
def store():
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(store, settings, monkeypatch):
    import boto3

    from cango_portal.settings import file_storage

    for name, value in {**ENVIRONMENT, "STORAGE_ENDPOINT_URL": store}.items():
        monkeypatch.setenv(name, value)
    settings.STORAGES = {**settings.STORAGES, "default": file_storage()}
    made = boto3.resource(
        "s3", endpoint_url=store, region_name="us-east-1", aws_access_key_id="one", aws_secret_access_key="two"
    ).Bucket("portal-files")
    made.create()
    yield made
    made.objects.all().delete()
    made.delete()


def names(bucket) -> list[str]:
    return [found.key for found in bucket.objects.all()]


def test_files_come_and_go(bucket, kept):
    organization = make.organization()
    row = b'{"custom_id": "' + b"x" * 1000 + b'"}\n'
    with writer(organization_id=organization.pk, name="rows.jsonl", purpose="batch") as out:
        for _ in range(20_000):  # 20 MB: several parts
            out.write(row)
        file = out.commit()
    assert names(bucket) == [f"files/{organization.pk}/{file.pk}"]
    assert kept() == []
    with open_lines(file.path) as lines:
        assert sum(line.content == row[:-1] for line in lines) == 20_000
    with open_lines(file.path, start=len(row) * 19_999, number=20_000) as lines:
        assert [(line.number, line.content) for line in lines] == [(20_000, row[:-1])]
    database.run(statements.delete(organization.pk, file.pk))
    assert services.expire() == 1
    assert (names(bucket), File.objects.count()) == ([], 0)


async def test_a_door_reads_it_in_pieces(bucket):
    default_storage.save("x/y", ContentFile(b"a" * 600_000))
    assert [len(part) async for part in services.parts("x/y")] == [262_144, 262_144, 75_712]
    with pytest.raises(FileNotFoundError):
        await anext(services.parts("x/none"))


def test_a_bucket_that_is_away_leaves_no_row(bucket, settings):
    bucket.delete()
    organization = make.organization()
    with writer(organization_id=organization.pk, name="a", purpose="batch") as out:
        out.write(b"x")
        with pytest.raises(Unavailable) as refused:
            out.commit()
    assert "NoSuchBucket" in str(refused.value.__cause__)
    bucket.create()
    assert File.objects.count() == 0
    assert names(bucket) == []


def test_without_a_bucket_the_portal_does_not_start():
    done = subprocess.run(
        [sys.executable, "-c", "import cango_portal.settings"],
        env={**os.environ, "STORAGE_BACKEND": "s3", "STORAGE_BUCKET": ""},
        cwd=portal.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "STORAGE_BACKEND=s3 needs STORAGE_BUCKET" in done.stderr

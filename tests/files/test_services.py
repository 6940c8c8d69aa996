import contextlib
import io
import time
from datetime import timedelta

import pypdfium2
import pytest
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st
from PIL import Image

from apps.core import signing
from apps.core.errors import InvalidRequest
from apps.files import services
from apps.files.models import File
from apps.files.tasks import expire
from tests import make
from tests.threads import run_in_threads

pytestmark = pytest.mark.django_db


def image(kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "white").save(out, kind)
    return out.getvalue()


def pdf(pages: int) -> bytes:
    document = pypdfium2.PdfDocument.new()
    for _ in range(pages):
        document.new_page(100, 100)
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("kind", "type"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp"), ("TIFF", "image/tiff")]
)
def test_images_are_known_by_their_bytes(kind, type):
    file = services.store(organization=make.organization(), upload=SimpleUploadedFile("scan.exe", image(kind)))
    assert (file.content_type, file.pages, file.name) == (type, 1, "scan.exe")
    with default_storage.open(file.path) as stored:
        assert stored.read() == image(kind)


def test_pages_of_a_pdf_are_counted():
    file = services.store(organization=make.organization(), upload=SimpleUploadedFile("invoice.pdf", pdf(3)))
    assert (file.content_type, file.pages) == ("application/pdf", 3)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7 and nothing more",
        b"GIF89a" + bytes(100),
        image("PNG")[:20],
        image("JPEG")[:3],
        b"\x89PNG\r\n\x1a\n" + bytes(100),
    ],
)
def test_anything_else_is_refused_and_nothing_is_kept(content, kept):
    with pytest.raises(InvalidRequest) as refused:
        services.store(organization=make.organization(), upload=SimpleUploadedFile("x.png", content))
    assert refused.value.param == "file"
    assert not File.objects.exists()
    assert kept() == []


def test_too_large_is_refused_and_nothing_is_kept(settings, kept):
    settings.MAX_FILE_BYTES = 10
    with pytest.raises(InvalidRequest) as refused:
        services.store(organization=make.organization(), upload=SimpleUploadedFile("x.png", image()))
    assert refused.value.reason == "file_too_large"
    assert kept() == []


def test_a_bomb_of_pixels_is_refused():
    small = bytearray(image("PNG"))
    small[16:24] = (60_000).to_bytes(4, "big") * 2  # the header's width and height; its checksum is wrong now as well
    with pytest.raises(InvalidRequest):
        services.store(organization=make.organization(), upload=SimpleUploadedFile("x.png", bytes(small)))


@limits(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.sampled_from(
        [b"", b"%PDF-1.7\n", image("PNG")[:40], image("TIFF")[:12], image("JPEG")[:30], image("WEBP")[:20]]
    ),
    rest=st.binary(max_size=200),
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_no_bytes_break_it(start, rest):
    with contextlib.suppress(InvalidRequest):
        assert services.content.inspect(io.BytesIO(start + rest)).pages > 0


def test_names_lose_paths_and_control_characters():
    assert services.readable("../../etc/pass\x00wd\n") == "passwd"
    assert services.readable("") == "file"


def test_a_signed_path_is_good_for_one_file_until_its_time(settings):
    one, other = make.uuid7(), make.uuid7()
    path, _, query = services.sign(one, seconds=60).partition("?")
    expires, signature = (part.partition("=")[2] for part in query.split("&"))
    now = timezone.now().timestamp()
    assert path == f"/agent/v1/files/{one}"

    def good(file_id, expires=expires, signature=signature, now=now):
        path = services.PATH.format(id=file_id)
        return signing.verified(path, expires=expires, given=signature, secret=settings.SECRET_KEY, now=now)

    assert good(one)
    assert not good(other)
    assert not good(one, expires=str(int(expires) + 1))
    assert not good(one, now=now + 61)
    assert not good(one, signature="é")
    assert not good(one, expires="²")


def test_expired_files_go_bytes_and_row(kept):
    organization = make.organization()
    old = services.store(organization=organization, upload=SimpleUploadedFile("a.png", image()))
    new = services.store(organization=organization, upload=SimpleUploadedFile("b.png", image()))
    File.objects.filter(pk=old.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    expire()
    assert list(File.objects.all()) == [new]
    assert [path.name for path in kept()] == [str(new.pk)]


def test_a_file_that_is_begun_to_be_read_does_not_expire(transactional_db):
    """Its reader has asked in time, and has not committed yet."""
    organization = make.organization()
    with services.writer(organization_id=organization.pk, name="a.jsonl", purpose=File.Purpose.BATCH) as out:
        out.write(b"{}\n")
        file = out.commit()
    File.objects.filter(pk=file.pk).update(expires_at=Now() + timedelta(seconds=0.3))
    with transaction.atomic():
        services.begin_reading(organization_id=organization.pk, file_id=file.pk, reader="batch:1")
        time.sleep(0.35)
        assert run_in_threads(1, lambda _: services.expire()) == [0]
    assert services.expire() == 0
    assert default_storage.exists(file.path)
    services.end_reading(reader="batch:1")
    assert services.expire() == 1
    assert (File.objects.count(), default_storage.exists(file.path)) == (0, False)


def test_what_dies_while_a_file_is_deleted_the_sweep_finishes(monkeypatch):
    file = services.store(organization=make.organization(), upload=SimpleUploadedFile("a.png", image()))
    with monkeypatch.context() as patch:
        patch.setattr(default_storage, "delete", lambda path: (_ for _ in ()).throw(OSError("away")))
        with pytest.raises(OSError, match="away"):
            services.discard(file.pk, file.path)
    assert File.objects.get().status == "deleted"
    assert services.expire() == 1
    assert (File.objects.count(), default_storage.exists(file.path)) == (0, False)

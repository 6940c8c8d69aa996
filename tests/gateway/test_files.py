"""/v1/files as the official client uses it, and as it should not be used."""

import contextlib
import io
import json
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import openai
import psycopg
import pytest
from django.core.files.storage import FileSystemStorage

from apps.core.ids import uuid7
from apps.files import services as files
from apps.files.models import File
from apps.gateway import uploads
from cango_portal import database
from tests import make
from tests.gateway.test_refusals import error, nothing_written

ROWS = b'{"custom_id": "1"}\n{"custom_id": "2"}\n'
BOUNDARY = "0123456789abcdef"


@pytest.fixture(autouse=True)
def _storage(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "files"
    settings.UPLOADS = tmp_path / "uploads"


def part(name: str, content: bytes, *, filename: str | bytes | None = None, headers: str = "") -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"'.encode()
    if filename is not None:
        raw = filename if isinstance(filename, bytes) else filename.encode()
        disposition += b'; filename="' + raw + b'"'
    return b"--" + BOUNDARY.encode() + b"\r\n" + disposition + b"\r\n" + headers.encode() + b"\r\n" + content + b"\r\n"


PURPOSE = part("purpose", b"batch")
FILE = part("file", ROWS, filename="rows.jsonl")
END = b"--" + BOUNDARY.encode() + b"--\r\n"


@pytest.fixture
def upload(shop, http):
    def send(body, *, boundary=BOUNDARY, **headers):
        given = {"content-type": f"multipart/form-data; boundary={boundary}".encode(), **headers}
        return http.post("/v1/files", content=body, headers={"authorization": f"Bearer {shop.secret}", **given})

    return send


@pytest.mark.parametrize("storage", ["FileSystemStorage", "InMemoryStorage"])
def test_a_file_from_upload_to_deletion(client, shop, settings, storage):
    settings.STORAGES = {**settings.STORAGES, "default": {"BACKEND": f"django.core.files.storage.{storage}"}}
    before = int(time.time())
    made = client.files.create(file=("ligne é.jsonl", ROWS, "application/jsonl"), purpose="batch")
    assert (made.object, made.bytes, made.filename, made.purpose, made.status) == (
        "file",
        len(ROWS),
        "ligne é.jsonl",
        "batch",
        "processed",
    )
    assert before <= made.created_at <= time.time()
    assert made.expires_at == made.created_at + 30 * 24 * 3600
    assert client.files.retrieve(made.id) == made
    assert client.files.wait_for_processing(made.id) == made
    content = client.files.content(made.id)
    assert content.read() == ROWS
    headers = content.response.headers
    assert (headers["content-type"], headers["content-length"]) == ("application/jsonl", str(len(ROWS)))
    assert headers["content-disposition"] == "attachment; filename*=utf-8''ligne%20%C3%A9.jsonl"
    assert client.files.list().data == [made]
    deleted = client.files.delete(made.id)
    assert (deleted.id, deleted.object, deleted.deleted) == (made.id, "file", True)
    for asking in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError) as refused:
            asking(made.id)
        assert (refused.value.code, refused.value.param) == ("file_not_found", "file_id")
    assert client.files.list().data == []
    assert not any(path.is_file() for path in Path(settings.MEDIA_ROOT).rglob("*"))
    assert File.objects.count() == 0


def test_expiry_as_asked_and_none_for_user_data(client, shop):
    hour = client.files.create(
        file=io.BytesIO(b"x"), purpose="user_data", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert (hour.expires_at, hour.filename) == (hour.created_at + 3600, "upload")
    kept = client.files.create(file=("notes.txt", b"x"), purpose="user_data")
    assert kept.expires_at is None


def test_the_list_goes_by_time_purpose_and_page(client, shop):
    made = [client.files.create(file=(f"{n}", b"x"), purpose="user_data").id for n in range(5)]
    batch = client.files.create(file=("b", ROWS), purpose="batch").id
    make_input(shop.organization)
    assert [file.id for file in client.files.list()] == [batch, *reversed(made)]
    assert [file.id for file in client.files.list(limit=2, order="asc")] == [*made, batch]  # follows the pages
    page = client.files.list(limit=2, order="asc", after=made[1])
    assert ([file.id for file in page.data], page.has_more) == (made[2:4], True)
    raw = page.model_dump()
    assert (raw["object"], raw["first_id"], raw["last_id"]) == ("list", made[2], made[3])
    page = client.files.list(limit=6)
    assert (len(page.data), page.has_more) == (6, False)
    assert [file.id for file in client.files.list(purpose="batch")] == [batch]
    assert client.files.list(purpose="fine-tune").data == []


def make_input(organization):
    return File.objects.create(organization=organization, name="scan.png", size_bytes=1, path=f"x/{uuid7()}")


def test_nobody_else_sees_it(client, shop, http):
    mine = client.files.create(file=("a", ROWS), purpose="batch").id
    hidden = make_input(shop.organization).public_id  # a job's own input
    _, secret = make.api_key(make.organization())
    other = client.with_options(api_key=secret)
    assert other.files.list().data == []
    for who, file in ((other, mine), (client, hidden), (client, "file_0"), (client, f"file_{'0' * 26}")):
        for asking in (who.files.retrieve, who.files.content, who.files.delete):
            with pytest.raises(openai.NotFoundError):
                asking(file)
    for method, path in (
        ("POST", "/v1/files"),
        ("GET", "/v1/files"),
        ("GET", f"/v1/files/{mine}"),
        ("GET", f"/v1/files/{mine}/content"),
        ("DELETE", f"/v1/files/{mine}"),
    ):
        assert http.request(method, path).status_code == 401
    assert client.files.content(mine).read() == ROWS
    assert http.head(f"/v1/files/{mine}/content", headers={"authorization": f"Bearer {shop.secret}"}).content == b""


def test_a_file_that_a_batch_reads_is_not_deleted(client, shop):
    made = client.files.create(file=("a", ROWS), purpose="batch")
    file = File.objects.get()
    files.begin_reading(organization_id=shop.organization.pk, file_id=file.pk, reader="batch:1")
    with pytest.raises(openai.ConflictError) as refused:
        client.files.delete(made.id)
    assert refused.value.code == "file_in_use"
    assert client.files.content(made.id).read() == ROWS
    files.end_reading(reader="batch:1")
    assert client.files.delete(made.id).deleted


NAMES = [
    ("../../etc/passwd", "passwd"),
    ("C:\\\\data\\\\rows.jsonl", "rows.jsonl"),
    ("a%0D%0Ab.jsonl", "ab.jsonl"),
    ("nul\0.jsonl", "nul.jsonl"),
    ("", "file"),
    ("数据.jsonl", "数据.jsonl"),
    ("a" * 300 + ".jsonl", "a" * 194 + ".jsonl"),
]


def test_names_lose_paths_and_control_characters(upload):
    for sent, kept in NAMES:
        response = upload(part("file", b"x", filename=sent) + PURPOSE + END)  # the file may come first
        assert response.status_code == 200, response.text
        assert response.json()["filename"] == kept


def test_types_that_are_none_are_bytes(upload, client):
    for sent, kept in (("text/plain; charset=utf-8", "text/plain"), ("a b", "octet-stream"), ("é/é", "octet-stream")):
        body = PURPOSE + part("file", b"<script>", filename="a", headers=f"Content-Type: {sent}\r\n") + END
        response = client.files.content(upload(body).json()["id"]).response
        assert response.headers["content-type"].endswith(kept)
        assert response.headers["content-disposition"].startswith("attachment")
        assert response.headers["x-content-type-options"] == "nosniff"


def expiry(anchor: bytes | None, seconds: bytes | None) -> bytes:
    given = {"expires_after[anchor]": anchor, "expires_after[seconds]": seconds}
    return b"".join(part(name, value) for name, value in given.items() if value is not None)


NOT_FORMS = [
    ("missing_required_parameter", "purpose", END),
    ("missing_required_parameter", "file", PURPOSE + END),
    ("missing_required_parameter", "purpose", FILE + END),
    ("missing_required_parameter", "purpose", part("purpose", b"") + FILE + END),
    ("invalid_multipart", None, b""),
    ("invalid_multipart", None, PURPOSE + FILE),
    ("invalid_multipart", None, PURPOSE + FILE[:-20]),
    ("invalid_multipart", None, PURPOSE + FILE + END[:-4]),
    ("invalid_multipart", None, b"hello"),
    ("invalid_multipart", None, b"x" * 300_000),
    ("invalid_multipart", None, (PURPOSE + FILE + END).replace(BOUNDARY.encode(), b"another")),
    ("invalid_multipart", None, FILE.replace(b"\r\n", b"\n") + END),
    ("invalid_multipart", None, b"--" + BOUNDARY.encode() + b"\r\n\r\nno headers\r\n" + END),
    ("invalid_multipart", None, part("file", b"x", filename=b"\xff\xfe") + PURPOSE + END),
    ("invalid_multipart", None, part("file", b"x", filename="a" * 5000) + PURPOSE + END),
    ("invalid_multipart", None, part("file", b"x", filename="a", headers="X: y\r\n" * 20) + PURPOSE + END),
    ("invalid_multipart", None, part("file", b"x", filename="a", headers="X: " + "y" * 200_000) + PURPOSE + END),
    ("unknown_parameter", "x", part("x", b"1") * 10_000 + END),
    ("unknown_parameter", "", part("", b"1") + PURPOSE + FILE + END),
    ("invalid_value", "purpose", PURPOSE * 10_000 + END),
    ("invalid_value", "purpose", part("purpose", b"x" * 100_000) + FILE + END),
    ("invalid_value", "purpose", part("purpose", b"ba\0tch") + FILE + END),
    ("invalid_value", "purpose", part("purpose", b"\xff") + FILE + END),
    ("invalid_value", "purpose", part("purpose", b"batch_output") + FILE + END),
    ("unsupported_parameter", "purpose", part("purpose", b"fine-tune") + FILE + END),
    ("unsupported_parameter", "purpose", part("purpose", b"assistants") + FILE + END),
    ("invalid_value", "file", PURPOSE + FILE + FILE + END),
    ("invalid_value", "file", PURPOSE + part("file", b"@rows.jsonl") + END),
    ("invalid_value", "file", PURPOSE + FILE[:-30] + FILE + FILE + END),
    ("invalid_file", "file", PURPOSE + part("file", b"", filename="rows.jsonl") + END),
    (
        "invalid_value",
        "file",
        PURPOSE + part("file", b"eA==", filename="a", headers="Content-Transfer-Encoding: base64\r\n") + END,
    ),
    ("missing_required_parameter", "expires_after.anchor", expiry(None, b"3600") + PURPOSE + FILE + END),
    ("missing_required_parameter", "expires_after.seconds", expiry(b"created_at", None) + PURPOSE + FILE + END),
    ("invalid_value", "expires_after.anchor", expiry(b"now", b"3600") + PURPOSE + FILE + END),
    *(
        ("invalid_value", "expires_after.seconds", expiry(b"created_at", seconds) + PURPOSE + FILE + END)
        for seconds in (b"3599", b"2592001", b"-1", b"1e4", b"", b"9" * 900, "٣٦٠٠".encode())
    ),
]


def test_forms_that_are_wrong_are_refused_and_nothing_is_kept(upload):
    with nothing_written():
        for code, param, body in NOT_FORMS:
            response = upload(body)
            assert response.status_code == 400, body[:300]
            found = error(response)
            assert (found["code"], found["param"] or "") == (code, param or ""), body[:300]


def test_what_is_no_form_is_refused(upload):
    body = PURPOSE + FILE + END
    with nothing_written():
        for headers in ({"content-type": "application/json"}, {"content-type": ""}, {"content-encoding": "gzip"}):
            response = upload(body, **headers)
            assert response.status_code == 415, headers
            assert error(response)["code"] == "unsupported_media_type"
        for boundary in ("", '""', "x" * 71, '"é"'):
            response = upload(body, boundary=boundary)
            assert response.status_code == 400, boundary
            assert error(response)["code"] == "invalid_multipart"


def test_wrong_queries_are_named(shop, http):
    for query, param in (
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("limit=x", "limit"),
        ("order=up", "order"),
        ("purpose=fun", "purpose"),
        ("after=file-1", "after"),
    ):
        response = http.get(f"/v1/files?{query}", headers={"authorization": f"Bearer {shop.secret}"})
        assert response.status_code == 400, query
        assert error(response)["param"] == param


def chunked(body: bytes):
    for start in range(0, len(body), 50_000):
        yield body[start : start + 50_000]


def test_a_file_too_large(upload, client, settings):
    settings.MAX_UPLOAD_BYTES, settings.MAX_BATCH_FILE_BYTES = 300_000, 200_000
    large = part("file", b"x" * 200_001, filename="a")
    larger = part("file", b"x" * 1_000_000, filename="a")
    with nothing_written():
        for body in (
            PURPOSE + large + END,
            large + PURPOSE + END,
            chunked(larger + PURPOSE + END),
            larger + PURPOSE + END,
        ):
            began = time.monotonic()
            response = upload(body)
            assert response.status_code == 413
            assert (error(response)["code"], error(response)["param"]) == ("request_too_large", "file")
            assert time.monotonic() - began < 5
    assert upload(part("purpose", b"user_data") + large + END).json()["bytes"] == 200_001
    assert client.files.list().data[0].bytes == 200_001  # the line is still good for the next request


def test_an_organization_that_keeps_too_much(upload, settings):
    settings.ORGANIZATION_STORAGE_BYTES = 150_000
    first = upload(PURPOSE + part("file", b"x" * 100_000, filename="a") + END)
    with nothing_written():
        for size in (50_001, 400_000):  # found at the end, and by the header
            response = upload(PURPOSE + part("file", b"x" * size, filename="a") + END)
            assert response.status_code == 403
            assert error(response)["code"] == "storage_limit_exceeded"
            assert response.headers["x-should-retry"] == "false"
    assert first.json()["bytes"] == 100_000


@contextlib.contextmanager
def half_sent(shop, body: bytes, *, length: int):
    """A connection that has sent this much of an upload."""
    place = urlsplit(shop.url)
    with socket.create_connection((place.hostname, place.port), timeout=10) as line:
        head = (
            f"POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {shop.secret}\r\n"
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {length}\r\n\r\n"
        )
        line.sendall(head.encode() + body)
        yield line


def wait_until(true) -> None:
    ends = time.monotonic() + 10
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_an_upload_that_breaks_off_leaves_nothing(shop, monkeypatch):
    with nothing_written():
        with half_sent(shop, PURPOSE + FILE[:-10] + b"x" * 600_000, length=10_000_000):
            wait_until(lambda: uploads._running.total() == 1)
        wait_until(lambda: uploads._running.total() == 0)


def test_an_upload_that_goes_quiet_is_ended_and_a_slow_one_is_not(shop, monkeypatch):
    monkeypatch.setattr(uploads, "IDLE_SECONDS", 0.5)
    body = PURPOSE + FILE + END
    with nothing_written(), half_sent(shop, body[:100], length=len(body)) as line:
        assert line.recv(4096).startswith(b"HTTP/1.1 408 ")
    with half_sent(shop, b"", length=len(body)) as line:
        for piece in (body[n : n + 50] for n in range(0, len(body), 50)):
            time.sleep(0.2)
            line.sendall(piece)
        answer = line.recv(4096)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["bytes"] == len(ROWS)


def test_an_upload_that_drips_is_ended(shop, monkeypatch):
    monkeypatch.setattr(uploads, "START_SECONDS", 0.2)
    with nothing_written(), half_sent(shop, PURPOSE[:20], length=10_000) as line:
        for _ in range(3):
            time.sleep(0.1)
            line.sendall(b"-")
        answer = line.recv(4096)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"16,384 bytes a second are the least" in answer


def test_so_many_uploads_at_once(shop, upload, monkeypatch):
    monkeypatch.setattr(uploads, "AT_ONCE_OF_ONE", 2)
    with half_sent(shop, PURPOSE, length=1000), half_sent(shop, PURPOSE, length=1000):
        wait_until(lambda: uploads._running.total() == 2)
        with nothing_written():
            response = upload(PURPOSE + FILE + END)
        assert (response.status_code, error(response)["code"]) == (429, "too_many_uploads")
        assert response.headers["retry-after"] == "5"
    wait_until(lambda: uploads._running.total() == 0)
    assert upload(PURPOSE + FILE + END).status_code == 200


def test_without_the_database_nothing_is_kept(upload, monkeypatch):
    async def away(plan):
        raise psycopg.OperationalError("away")

    with nothing_written():
        monkeypatch.setattr(database, "run_async", away)
        response = upload(PURPOSE + FILE + END)
        monkeypatch.undo()
    assert (response.status_code, error(response)["code"]) == (503, "unavailable")


class Away(FileSystemStorage):
    def _save(self, name, content):
        raise ConnectionError

    def _open(self, name, mode="rb"):
        raise ConnectionError


def test_without_its_store_nothing_is_kept(upload, client, settings):
    made = client.files.create(file=("a", ROWS), purpose="batch")
    with nothing_written():
        settings.STORAGES = {**settings.STORAGES, "default": {"BACKEND": "tests.gateway.test_files.Away"}}
        for response in (upload(PURPOSE + FILE + END), content(client, made.id)):
            assert (response.status_code, error(response)["code"]) == (503, "unavailable")


def content(client, file: str):
    with pytest.raises(openai.InternalServerError) as refused:
        client.files.content(file)
    return refused.value.response


@pytest.mark.story
def test_the_refusal_of_a_very_large_body_arrives(upload, settings):
    """More than is read to its end: the client still gets the answer, and not a broken connection."""
    settings.MAX_UPLOAD_BYTES = settings.MAX_BATCH_FILE_BYTES = 1000
    body = PURPOSE + part("file", b"x" * 150_000_000, filename="a") + END
    with nothing_written():
        for sent in (body, chunked(body)):
            response = upload(sent)
            assert (response.status_code, error(response)["code"]) == (413, "request_too_large")


def peak_rss_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


@pytest.mark.story
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's peak counter")
def test_a_large_file_is_never_in_memory(shop, http):
    """150 MB up and down again, portal and client in one process, and its peak grows by less than 20 MB."""
    row = b'{"custom_id": "' + b"x" * 980 + b'"}\n'
    rows = 150_000_000 // len(row)

    def body():
        yield PURPOSE + part("file", b"", filename="large.jsonl")[:-2]
        for _ in range(rows // 60):
            yield row * 60
        yield b"\r\n" + END

    headers = {
        "authorization": f"Bearer {shop.secret}",
        "content-type": f"multipart/form-data; boundary={BOUNDARY}",
    }
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_rss_kib()
    made = http.post("/v1/files", content=body(), headers=headers, timeout=120).json()
    assert made["bytes"] == rows // 60 * 60 * len(row)
    received = 0
    with http.stream("GET", f"/v1/files/{made['id']}/content", headers=headers, timeout=120) as response:
        for piece in response.iter_bytes():
            received += len(piece)
    assert received == made["bytes"]
    with files.open_lines(File.objects.get().path) as lines:
        assert sum(1 for _ in lines) == rows // 60 * 60
    assert peak_rss_kib() - before < 20 * 1024

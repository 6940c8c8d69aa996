"""One POST: bounded in time and size, and never to an address that was not checked."""

import datetime
import socket
import ssl
import threading
import time

import httpcore
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from apps.webhooks import outbound
from apps.webhooks.addresses import Rules

LAPTOP = Rules(private=True, plain=True)
DEMO = Rules(private=False, plain=True)


def post(url, *, rules=LAPTOP, timeout_seconds=5.0, **fields):
    return outbound.post(
        url, headers={"webhook-id": "msg_1"}, body="{}", rules=rules, timeout_seconds=timeout_seconds, **fields
    )


@pytest.fixture
def connects(monkeypatch):
    """Every address a connection is tried to; none is made."""
    tried = []

    def connect_tcp(self, host, port, *_):
        tried.append((host, port))
        raise httpcore.ConnectError

    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect_tcp)
    return tried


@pytest.mark.parametrize(
    "url",
    [
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::1]/",
        "http://user@127.0.0.1/",
        "http://example.com@127.0.0.1/",
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://localhost/",
        "http://0.0.0.0:{port}/",
        "http://[::]:{port}/",
    ],
)
def test_no_way_of_writing_this_machine_reaches_it(receiver, connects, url):
    outcome = post(url.format(port=receiver.port), rules=DEMO)
    assert outcome.status is None
    assert outcome.error
    assert (connects, receiver.received) == ([], [])


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "::1", "::ffff:10.0.0.1", "fd00:ec2::254", "64:ff9b::a9fe:a9fe"],
)  # fmt: skip
@pytest.mark.parametrize("beside", [[], ["93.184.216.34"]])
def test_a_name_that_leads_inside_is_refused_even_beside_a_public_address(connects, address, beside):
    outcome = post("https://hooks.example.com/", rules=DEMO, resolver=lambda *_: [*beside, address])
    assert outcome.status is None
    assert outcome.error.startswith("The name leads to a private or reserved address.")
    assert connects == []


def test_a_name_that_changes_between_calls_gains_nothing(connects, monkeypatch):
    """Rebinding: what was checked is what is connected to, without a second question."""
    answers = [["93.184.216.34"], ["127.0.0.1"], ["93.184.216.34"]]
    asked = []

    def resolver(host, port):
        asked.append((host, port))
        return answers[len(asked) - 1]

    def system(*_, **__):
        raise AssertionError("the system's resolver was asked as well")

    monkeypatch.setattr(socket, "getaddrinfo", system)
    errors = [post("https://hooks.example.com/x", rules=DEMO, resolver=resolver).error for _ in range(3)]
    assert asked == [("hooks.example.com", 443)] * 3
    assert connects == [("93.184.216.34", 443)] * 2
    assert [error[:15] for error in errors] == ["The connection ", "The name leads ", "The connection "]


def test_the_second_address_is_tried_and_no_more(connects):
    post("https://hooks.example.com/", rules=DEMO, resolver=lambda *_: ["1.1.1.1", "1.0.0.1", "8.8.8.8"])
    assert connects == [("1.1.1.1", 443), ("1.0.0.1", 443)]


@pytest.mark.parametrize("failure", [OSError("no"), socket.gaierror(-2, "unknown"), UnicodeError("label")])
def test_a_name_nobody_knows(connects, failure):
    def resolver(*_):
        raise failure

    outcome = post("https://hooks.example.com/", rules=DEMO, resolver=resolver)
    assert (outcome.status, outcome.error) == (None, "The name of the server could not be resolved.")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(receiver, status):
    receiver.status, receiver.headers = status, {"location": receiver.url + "/elsewhere"}
    outcome = post(receiver.url)
    assert (outcome.status, outcome.delivered) == (status, False)
    assert outcome.error == f"The server answered {status}. Redirects are not followed."
    assert [request.path for request in receiver.received] == ["/hooks"]


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_delivered(receiver, status):
    receiver.status, receiver.body = status, b""
    assert post(receiver.url).delivered


def test_a_server_that_does_not_answer_is_left_in_time(receiver):
    done = threading.Event()
    receiver.answer = lambda handler: done.wait(5)
    began = time.monotonic()
    outcome = post(receiver.url, timeout_seconds=0.3)
    done.set()
    assert time.monotonic() - began < 2
    assert (outcome.status, outcome.error) == (None, "No complete answer within 0.3 s.")


def test_a_server_that_sends_a_byte_now_and_then_is_left_in_time(receiver):
    """Each wait is short; all of them together are what is bounded."""
    done = threading.Event()

    def drip(handler):
        while not done.wait(0.05):
            handler.wfile.write(b"H")

    receiver.answer = drip
    began = time.monotonic()
    outcome = post(receiver.url, timeout_seconds=0.5)
    done.set()
    assert time.monotonic() - began < 2
    assert (outcome.status, outcome.delivered) == (None, False)


def test_a_body_that_drips_ends_in_time_and_the_status_counts(receiver):
    done = threading.Event()

    def drip(handler):
        handler.send_response(200)
        handler.end_headers()
        while not done.wait(0.05):
            handler.wfile.write(b".")

    receiver.answer = drip
    began = time.monotonic()
    outcome = post(receiver.url, timeout_seconds=0.5)
    done.set()
    assert time.monotonic() - began < 2
    assert outcome.delivered
    assert set(outcome.excerpt) == {"."}


def test_an_endless_body_is_read_to_64_kb(receiver):
    written = []

    def flood(handler):
        handler.send_response(200)
        handler.end_headers()
        for _ in range(2000):
            written.append(handler.wfile.write(b"x" * 65536))

    receiver.answer = flood
    outcome = post(receiver.url, timeout_seconds=5)
    assert outcome.delivered
    assert outcome.excerpt == "x" * 1024
    assert len(written) < 2000  # it was hung up on


def test_endless_headers_are_refused(receiver):
    def flood(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for n in range(200_000):
            handler.wfile.write(b"x-%d: %s\r\n" % (n, b"y" * 1000))

    receiver.answer = flood
    outcome = post(receiver.url, timeout_seconds=5)
    assert (outcome.status, outcome.error) == (None, "The connection broke, or the answer was not HTTP.")


def test_an_answer_that_is_not_http(receiver):
    receiver.answer = lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    assert post(receiver.url).error == "The connection broke, or the answer was not HTTP."


def test_what_is_kept_of_an_answer_is_text_that_can_be_stored(receiver):
    receiver.body = b"a\0b\xff" + "é".encode() * 2000
    excerpt = post(receiver.url).excerpt
    assert excerpt.startswith("a\ufffdb\ufffdé")
    assert "\0" not in excerpt
    assert len(excerpt) <= 1024


def test_a_compressed_answer_is_not_unpacked(receiver):
    receiver.headers, receiver.body = {"content-encoding": "gzip"}, b"\x1f\x8b\x08" + b"\0" * 50
    assert post(receiver.url).delivered


def test_no_proxy_of_the_environment_is_asked(receiver, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert post(receiver.url).delivered


def test_query_and_unicode_travel_percent_encoded(receiver):
    assert post(f"http://127.0.0.1:{receiver.port}/grüße/%20x?q=ü&a=b%26c").delivered
    assert receiver.received[0].path == "/gr%C3%BC%C3%9Fe/%20x?q=%C3%BC&a=b%26c"


@pytest.fixture
def certified(receiver, tmp_path, monkeypatch):
    """The receiver behind TLS with a certificate for hooks.example.com, by an authority of the test's own."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hooks.example.com")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("hooks.example.com")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    names = []
    server.sni_callback = lambda _socket, name, _context: names.append(name)
    receiver.server.socket = server.wrap_socket(receiver.server.socket, server_side=True)
    trusting = ssl.create_default_context(cadata=certificate.public_bytes(serialization.Encoding.PEM).decode())
    monkeypatch.setattr(outbound, "trust", lambda: trusting)
    return names


def test_tls_and_host_keep_the_name_while_the_address_is_connected_to(receiver, certified):
    url = f"https://hooks.example.com:{receiver.port}/x"
    outcome = post(url, resolver=lambda *_: ["127.0.0.1"])
    assert outcome.delivered
    assert certified == ["hooks.example.com"]
    assert receiver.received[0].headers["host"] == f"hooks.example.com:{receiver.port}"
    other = post(f"https://other.example.com:{receiver.port}/x", resolver=lambda *_: ["127.0.0.1"])
    assert (other.status, other.error) == (None, "The certificate was not accepted.")
    assert len(receiver.received) == 1

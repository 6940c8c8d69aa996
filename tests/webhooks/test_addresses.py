"""Where webhooks may go: the corpus of ways into a network."""

import socket

import pytest

from apps.core.errors import InvalidRequest
from apps.webhooks import addresses
from apps.webhooks.addresses import Rules

PRODUCTION = Rules(private=False, plain=False)
DEMO = Rules(private=False, plain=True)
LAPTOP = Rules(private=True, plain=True)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:8.8.8.8",
        "::ffff:0:127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a00:1",
        "100::1",
        "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:20::1",
        "2001:db8::1",
        "2002:a9fe:a9fe::",
        "2002:7f00:1::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fd20:ce::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "",
        "example.com",
        "2130706433",
    ],
)
def test_refused(address):
    assert not addresses.public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.216.34", "1.1.1.1", "2606:4700:4700::1111", "2a00:1450:4001::1"]
)
def test_public(address):
    assert addresses.public(address)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "//example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "javascript:alert(1)",
        "http://example.com/",
        "https://",
        "https:///path",
        "https://user@example.com/",
        "https://user:secret@example.com/",
        "https://example.com@127.0.0.1/",
        "https://:@example.com/",
        "https://example.com/#part",
        "https://example.com:8443/",
        "https://example.com:22/",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://example.com:x/",
        "https://example.com\\@127.0.0.1/",
        "https://example.com/a b",
        "https://example.com/\r\nHost: x",
        "https://example.com/\0",
        "https://exa\tmple.com/",
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.0.0.1/",
        "https://0177.0.0.1/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://0/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:7f00:1]/",
        "https://[fe80::1%25eth0]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[::/",
        "https://localhost/",
        "https://localhost./",
        "https://intranet/",
        "https://１２７.0.0.1/",
        "https://-bad-.example.com/",
        "https://exa_mple..com/",
        "https://example.com/" + "a" * 2000,
    ],
)
def test_a_url_that_cannot_be_meant_is_refused_at_once(url):
    with pytest.raises(InvalidRequest) as refused:
        addresses.checked_url(url, PRODUCTION)
    assert (refused.value.param, refused.value.reason) == ("url", "invalid_url")


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com:443/hooks?a=b&c=%20",
        "https://hooks.example.co.uk/a/b",
        "https://münchen.example/grüße",
        "https://8.8.8.8/hooks",
        "https://[2606:4700:4700::1111]/",
        "https://123abc.example.com/",
        "HTTPS://EXAMPLE.com/",
    ],
)
def test_a_public_url_is_kept_as_it_is(url):
    assert addresses.checked_url(f" {url} ", PRODUCTION) == url


def test_plain_http_is_for_demos_and_ports_for_laptops():
    assert addresses.checked_url("http://example.com/", DEMO) == "http://example.com/"
    for url in ("http://127.0.0.1/", "http://2130706433/", "http://example.com:8000/", "http://[::ffff:127.0.0.1]/"):
        with pytest.raises(InvalidRequest):
            addresses.checked_url(url, DEMO)
    assert addresses.checked_url("http://127.0.0.1:8000/x", LAPTOP) == "http://127.0.0.1:8000/x"
    assert addresses.checked_url("https://example.com:8443/", LAPTOP) == "https://example.com:8443/"
    for url in ("http://user@127.0.0.1:8000/", "ftp://127.0.0.1/", "http://127.0.0.1:99999/"):
        with pytest.raises(InvalidRequest):
            addresses.checked_url(url, LAPTOP)


def test_the_resolver_names_every_address_once(monkeypatch):
    entries = [
        (socket.AF_INET6, 1, 6, "", ("2606:4700::1", 443, 0, 0)),
        (socket.AF_INET, 1, 6, "", ("8.8.8.8", 443)),
        (socket.AF_INET, 1, 6, "", ("8.8.8.8", 443)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)
    assert addresses.resolve("example.com", 443) == ["2606:4700::1", "8.8.8.8"]

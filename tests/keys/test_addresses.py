"""Where a request comes from, and what is a range."""

import pytest

from apps.core.errors import InvalidRequest
from apps.keys.addresses import client_address, ranges, within


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies", "address"),
    [
        ("203.0.113.7", None, 0, "203.0.113.7"),
        ("203.0.113.7", "198.51.100.1", 0, "203.0.113.7"),  # nobody of ours wrote that
        ("10.0.0.1", "203.0.113.7", 1, "203.0.113.7"),
        ("10.0.0.1", "198.51.100.1, 203.0.113.7", 1, "203.0.113.7"),  # the client lied about the first
        ("10.0.0.1", "198.51.100.1, 203.0.113.7, 10.0.0.2", 2, "203.0.113.7"),
        ("10.0.0.1", "203.0.113.7", 2, "203.0.113.7"),
        ("10.0.0.1", None, 1, "10.0.0.1"),
        ("10.0.0.1", "203.0.113.7:4711", 1, "203.0.113.7"),
        ("10.0.0.1", "[2001:db8::1]:4711", 1, "2001:db8::1"),
        ("::ffff:203.0.113.7", None, 0, "203.0.113.7"),
        ("10.0.0.1", "unknown", 1, None),
        ("testclient", None, 0, None),
        (None, None, 0, None),
    ],
)
def test_only_our_own_proxies_are_believed(peer, forwarded, proxies, address):
    assert client_address(peer, forwarded, proxies=proxies) == address


def test_ranges_are_kept_short_and_in_order():
    given = ["203.0.113.7", "10.0.0.0/8", " 10.1.0.0/16", "2001:db8::/32", "::ffff:192.0.2.0/120"]
    assert ranges(given) == ("10.0.0.0/8", "192.0.2.0/24", "203.0.113.7/32", "2001:db8::/32")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "10.0.0.1/8",
            "“10.0.0.1/8” is an address inside the range 10.0.0.0/8. Enter 10.0.0.0/8, or the address alone.",
        ),
        ("example.org", "“example.org” is no IP range."),
        ("10.0.0.0/33", "“10.0.0.0/33” is no IP range."),
        ("", "“” is no IP range."),
    ],
)
def test_a_mistake_is_named_with_its_remedy(text, words):
    with pytest.raises(InvalidRequest) as refused:
        ranges([text])
    assert refused.value.message.startswith(words)
    assert refused.value.param == "ip_ranges"


def test_narrower_ranges():
    assert within(["10.1.0.0/16"], ["10.0.0.0/8", "2001:db8::/32"])
    assert not within(["10.1.0.0/16", "192.0.2.0/24"], ["10.0.0.0/8"])
    assert not within(None, ["10.0.0.0/8"])
    assert within(None, None)

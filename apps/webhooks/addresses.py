"""Which URLs and which network addresses webhooks may go to. No I/O but the resolver.

A URL is read when it is saved, so that mistakes are told at once. What protects the network is the check of the address
itself at the moment of connecting (`apps.webhooks.outbound`): a name may resolve differently later.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

import idna
from django.utils.translation import gettext

from apps.core.errors import InvalidRequest
from apps.webhooks.models import URL_LENGTH

Address = IPv4Address | IPv6Address
Resolver = Callable[[str, int], list[str]]
PORTS = {"https": 443, "http": 80}

GLOBAL_IPV6 = ip_network("2000::/3")  # IANA IPv6 address space: all that is assigned for global unicast
REFUSED = tuple(
    ip_network(network)
    for network in (
        "192.0.0.0/24",  # IETF protocol assignments; a cloud serves metadata at .192
        "192.88.99.0/24",  # 6to4 relays
        "168.63.129.16/32",  # a cloud's host agent, on an address that counts as public
        "2001::/23",  # Teredo and other protocol assignments
        "2001:db8::/32",  # documentation, as 3fff::/20
        "3fff::/20",
        "2002::/16",  # 6to4: carries an IPv4 address within
    )
)
# IPv4-mapped, NAT64 (64:ff9b::), unique local and link-local addresses lie outside 2000::/3.


class Refused(Exception):
    """Why a webhook may not go there, for the customer's log."""


@dataclass(frozen=True, slots=True)
class Rules:
    """`private` lets any address and port and plain http through: a laptop and the tests. `plain` lets http through."""

    private: bool
    plain: bool


def public(text: str) -> bool:
    """May the address be reached from here: global unicast, and not a way round through a transition mechanism?"""
    address = parsed(text)
    if address is None or any(address in network for network in REFUSED):
        return False
    if isinstance(address, IPv6Address):
        return address in GLOBAL_IPV6 and address.is_global
    return address.is_global and not address.is_multicast and not address.is_reserved


def parsed(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def resolve(host: str, port: int) -> list[str]:
    """Every address of a name, in the system's order. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def checked_url(text: str, rules: Rules) -> str:
    """The URL as it will be used. Raises InvalidRequest(param="url") for what can never be delivered to."""
    text = text.strip()
    if len(text) > URL_LENGTH:
        raise refusal(gettext("The URL has more than %(most)s characters.") % {"most": f"{URL_LENGTH:,}"})
    if not text.isprintable() or re.search(r"[\s\\<>\"^`{|}]", text):
        raise refusal(gettext("The URL holds spaces, backslashes or other characters that must be percent-encoded."))
    try:
        parts = urlsplit(text)
        port = parts.port
        host = parts.hostname or ""
    except ValueError:
        raise refusal(gettext("This is not a URL. It looks like https://example.com/hooks.")) from None
    if parts.scheme not in PORTS or not host or host.endswith("%"):
        raise refusal(gettext("This is not a URL of a web server. It looks like https://example.com/hooks."))
    if parts.scheme == "http" and not (rules.plain or rules.private):
        raise refusal(gettext("The URL must begin with https://, so that events travel encrypted."))
    if parts.username is not None or parts.password is not None:
        raise refusal(gettext("The URL may not hold a user name or password. Check the signature instead."))
    if parts.fragment:
        raise refusal(gettext("The URL may not hold a #fragment."))
    if port is not None and port != PORTS[parts.scheme] and not rules.private:
        raise refusal(gettext("Webhooks go to the standard port only: leave the port out of the URL."))
    check_host(host, rules)
    return text


def check_host(host: str, rules: Rules) -> None:
    if rules.private:
        return
    if parsed(host) is not None:
        if not public(host):
            raise refusal(gettext("This address is private or reserved. Webhooks go to public addresses only."))
        return
    try:
        name = idna.encode(host.rstrip("."), uts46=True).decode()
    except idna.IDNAError:
        raise refusal(gettext("The host of the URL is not a name.")) from None
    last = name.rpartition(".")[2]
    if "." not in name or last.isdigit() or re.fullmatch("0x[0-9a-f]*", last):
        raise refusal(gettext("The host of the URL is not a public name such as example.com."))


def refusal(message: str) -> InvalidRequest:
    return InvalidRequest(message, param="url", code="invalid_url")

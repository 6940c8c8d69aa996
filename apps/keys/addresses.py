"""Where a request comes from, and the ranges a key may be used from. Pure but for the words of its refusals."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from django.utils.translation import gettext

from apps.core.errors import InvalidRequest

MOST_RANGES = 50
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
MAPPED = ipaddress.ip_network("::ffff:0:0/96")  # IPv4 written as IPv6


def client_address(peer: str | None, forwarded: str | None, *, proxies: int) -> str | None:
    """The client's address where `proxies` of ours stand in front: each adds the one it heard from to X-Forwarded-For.

    What stands further left was sent by the client and may be anything. None where it cannot be told.
    """
    heard = [part.strip() for part in (forwarded or "").split(",")] if proxies and forwarded else []
    chain = [*heard, peer or ""]
    found = parsed(chain[max(len(chain) - 1 - proxies, 0)])
    return str(found) if found else None


def parsed(text: str) -> Address | None:
    """An address as proxies write it: with a port, in brackets, or IPv4 in IPv6's clothes."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def ranges(given: Iterable[str], *, param: str = "ip_ranges") -> tuple[str, ...]:
    """Ranges in CIDR notation, each once, without those that lie in another. Raises InvalidRequest, which names the first that is none."""
    found: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
    for each in given:
        try:
            network = ipaddress.ip_network(each.strip())
        except ValueError:
            raise InvalidRequest(not_a_range(each), param=param, code="invalid_value") from None
        if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(MAPPED):  # type: ignore[arg-type]
            network = ipaddress.ip_network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
        found.append(network)
    if len(found) > MOST_RANGES:
        raise InvalidRequest(
            gettext("There are %(count)s address ranges. Name %(most)s at most.")
            % {"count": len(found), "most": MOST_RANGES},
            param=param,
            code="invalid_value",
        )
    four = [network for network in found if isinstance(network, ipaddress.IPv4Network)]
    six = [network for network in found if isinstance(network, ipaddress.IPv6Network)]
    return tuple(str(network) for network in (*ipaddress.collapse_addresses(four), *ipaddress.collapse_addresses(six)))


def not_a_range(text: str) -> str:
    shown = text.strip()[:60]
    try:
        wide = ipaddress.ip_network(shown, strict=False)
    except ValueError:
        return gettext(
            "“%(range)s” is no IP range. Enter one such as 203.0.113.0/24, 2001:db8::/32 or a single address."
        ) % {"range": shown}
    return gettext("“%(range)s” is an address inside the range %(wide)s. Enter %(wide)s, or the address alone.") % {
        "range": shown,
        "wide": wide,
    }


def within(given: Iterable[str] | None, other: Iterable[str] | None) -> bool:
    """Does every range of `given` lie in one of `other`? None is everywhere."""
    if other is None:
        return True
    outer = [ipaddress.ip_network(each) for each in other]
    return given is not None and all(
        any(net.version == each.version and net.subnet_of(each) for each in outer)  # type: ignore[arg-type]
        for net in map(ipaddress.ip_network, given)
    )

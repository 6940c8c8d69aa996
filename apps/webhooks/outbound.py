"""One POST to a customer's server: to public addresses only, bounded in time and size, no redirects, no proxy.

The name is resolved once; every address it has is checked, and the connection is made to one of those very addresses,
so that no second answer of the DNS can lead elsewhere. TLS and the Host header keep the name.
"""

from __future__ import annotations

import re
import ssl
import time
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache
from urllib.parse import quote, urlsplit

import httpcore
import idna
from django.utils.translation import gettext, gettext_noop

from apps.core.errors import InvalidRequest
from apps.webhooks import addresses
from apps.webhooks.addresses import Refused, Resolver, Rules
from apps.webhooks.models import EXCERPT_LENGTH

MAX_RESPONSE_BYTES = 64 * 1024
MAX_ADDRESSES = 2  # of a name that are tried
# What a log says is kept in English; a page has `translated`.
UNRESOLVED = gettext_noop("The name of the server could not be resolved.")
ANSWERED = gettext_noop("The server answered %(status)s.")
REDIRECTED = gettext_noop("The server answered %(status)s. Redirects are not followed.")
LATE = gettext_noop("No complete answer within %(seconds)s s.")
Options = Iterable[typing.Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt. `status` is None without a response; then `error` says why, in words.

    `retry_after_seconds`: as the answer's Retry-After asks, 0 where it does not.
    """

    status: int | None
    excerpt: str
    error: str
    took_seconds: float
    retry_after_seconds: float = 0.0

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class TooLate(Exception):
    """The whole exchange took longer than it may."""


class Deadline:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.ends = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds, above zero. Raises TooLate."""
        left = self.ends - time.monotonic()
        if left <= 0:
            raise TooLate
        return left


class BoundedStream(httpcore.NetworkStream):
    """A connection whose every wait ends at the deadline: a server that sends a byte now and then gains nothing."""

    def __init__(self, inner: httpcore.NetworkStream, deadline: Deadline) -> None:
        self.inner = inner
        self.deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self.inner.read(max_bytes, self.deadline.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.inner.write(buffer, self.deadline.left())

    def close(self) -> None:
        self.inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return BoundedStream(self.inner.start_tls(ssl_context, server_hostname, self.deadline.left()), self.deadline)

    def get_extra_info(self, info: str) -> typing.Any:
        return self.inner.get_extra_info(info)


class CheckedBackend(httpcore.NetworkBackend):
    """Connects to checked addresses only."""

    def __init__(self, *, rules: Rules, resolver: Resolver, deadline: Deadline) -> None:
        self.inner = httpcore.SyncBackend()
        self.rules = rules
        self.resolver = resolver
        self.deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Options | None = None,
    ) -> httpcore.NetworkStream:
        found = self.checked(host, port)
        for last, address in ((address == found[-1], address) for address in found):
            try:
                stream = self.inner.connect_tcp(address, port, self.deadline.left(), None, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if last:
                    raise
            else:
                return BoundedStream(stream, self.deadline)
        raise AssertionError("a name has at least one address")

    def checked(self, host: str, port: int) -> list[str]:
        """Addresses to connect to. One that may not be reached refuses the whole name. Raises Refused."""
        try:
            found = self.resolver(host, port)
        except (OSError, UnicodeError):
            found = []
        if not found:
            raise Refused(UNRESOLVED)
        if not self.rules.private and not all(addresses.public(address) for address in found):
            raise Refused(
                gettext_noop("The name leads to a private or reserved address. Webhooks go to public addresses only.")
            )
        return found[:MAX_ADDRESSES]


@cache
def trust() -> ssl.SSLContext:
    return httpcore.default_ssl_context()


def post(
    url: str,
    *,
    headers: dict[str, str],
    body: str,
    rules: Rules,
    timeout_seconds: float,
    resolver: Resolver = addresses.resolve,
) -> Outcome:
    """Send once. Never raises for what the other side does or is."""
    began = time.monotonic()
    status: int | None = None
    received = b""
    error = ""
    later = 0.0
    deadline = Deadline(timeout_seconds)
    backend = CheckedBackend(rules=rules, resolver=resolver, deadline=deadline)
    try:
        target = wire_url(addresses.checked_url(url, rules))
        with (
            httpcore.ConnectionPool(ssl_context=trust(), network_backend=backend) as pool,
            pool.stream(
                "POST", target, headers=[("Host", authority(url)), *headers.items()], content=body.encode()
            ) as response,
        ):
            status = response.status
            later = retry_after(dict(response.headers).get(b"retry-after", b""))
            for chunk in response.iter_stream():
                received += chunk[: MAX_RESPONSE_BYTES - len(received)]
                if len(received) >= MAX_RESPONSE_BYTES:
                    break
    except (Refused, InvalidRequest) as refused:
        error = str(refused)
    except idna.IDNAError:
        error = UNRESOLVED
    except (TooLate, httpcore.TimeoutException):
        error = LATE % {"seconds": f"{timeout_seconds:g}"}
    except httpcore.ConnectError as failed:
        error = (
            gettext_noop("The certificate was not accepted.")
            if certificate(failed)
            else gettext_noop("The connection could not be made.")
        )
    except (httpcore.NetworkError, httpcore.ProtocolError):
        error = gettext_noop("The connection broke, or the answer was not HTTP.")
    return Outcome(
        status=status,
        excerpt=excerpt(received),
        error=error if status is None else words(status),
        took_seconds=time.monotonic() - began,
        retry_after_seconds=later,
    )


def retry_after(value: bytes) -> float:
    """RFC 9110, 10.2.3: seconds or a date. 0 for what is neither, or has passed."""
    text = value.decode("latin-1").strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return 0.0


def words(status: int) -> str:
    if 200 <= status < 300:
        return ""
    return form_of(status) % {"status": status}


def form_of(status: int) -> str:
    return REDIRECTED if 300 <= status < 400 else ANSWERED


def translated(error: str, status: int | None) -> str:
    """What a log says of an attempt, in the reader's language."""
    if status is not None and error == words(status):
        return gettext(form_of(status)) % {"status": status} if error else ""
    if late := re.fullmatch(re.escape(LATE).replace(re.escape("%(seconds)s"), "(.+)"), error):
        return gettext(LATE) % {"seconds": late[1]}
    return gettext(error)


def certificate(failed: BaseException) -> bool:
    cause: BaseException | None = failed
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def wire_url(url: str) -> httpcore.URL:
    """ASCII on the wire: the host in its IDNA form, the rest percent-encoded as browsers do."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    name = host if host.isascii() else idna.encode(host, uts46=True).decode()
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=-._~")
    query = f"?{quote(parts.query, safe='/%:@!$&()*+,;=-._~?')}" if parts.query else ""
    return httpcore.URL(
        scheme=parts.scheme.encode(), host=name.encode(), port=parts.port, target=f"{path}{query}".encode()
    )


def authority(url: str) -> str:
    """What the Host header says: name, and the port where the URL has one."""
    target = wire_url(url)
    host = target.host.decode()
    name = f"[{host}]" if ":" in host else host
    return f"{name}:{target.port}" if target.port else name


def excerpt(received: bytes) -> str:
    """At most 1 kB of text a database and a page can hold."""
    return received[:EXCERPT_LENGTH].decode(errors="replace").replace("\0", "\ufffd")

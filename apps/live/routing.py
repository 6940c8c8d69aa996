"""Sockets: `/ws/organization/` on customer pages, `/ws/jobs/<id>/` on a job's page."""

from typing import Any

from channels.routing import URLRouter
from channels.security.websocket import WebsocketDenier
from channels.sessions import CookieMiddleware
from django.conf import settings
from django.http.request import split_domain_port, validate_host
from django.urls import path

from apps.core.asgi import Application, Receive, Scope, Send
from apps.live.consumers import PageConsumer


def same_origin(application: Application) -> Application:
    """Refuse a socket that another site's page opened: cookies travel with it, whatever page it comes from.

    The origin must be this host's own, or exactly one of CSRF_TRUSTED_ORIGINS. Without one: no browser, no socket.
    """

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if trusted(headers.get(b"origin", ""), headers.get(b"host", "")):
            await application(scope, receive, send)
        else:
            await WebsocketDenier()(scope, receive, send)

    return guarded


def trusted(origin: str, host: str) -> bool:
    if not origin:
        return False
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    domain, _ = split_domain_port(host)
    if not domain or not validate_host(domain, settings.ALLOWED_HOSTS):
        return False
    return origin == f"{'https' if settings.HTTPS else 'http'}://{host}"


page: Any = PageConsumer.as_asgi()
not_found: Any = WebsocketDenier.as_asgi()
application: Application = same_origin(
    CookieMiddleware(
        URLRouter(
            [
                path("ws/organization/", page),
                path("ws/jobs/<str:job>/", page),
                path("<path:unknown>", not_found),
            ]
        )
    )
)

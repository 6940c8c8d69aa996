"""What the lean doors ask first of every request: a key in force, and a database to ask about it."""

from __future__ import annotations

import logging
from functools import wraps

from django.conf import settings
from psycopg import OperationalError
from psycopg_pool import PoolTimeout

from apps.accounts.scopes import Needed, Scope
from apps.core.asgi import Handler, Request
from apps.core.errors import Unavailable
from apps.core.ids import public
from apps.keys import services as keys
from apps.keys.addresses import client_address
from apps.keys.services import Caller

log = logging.getLogger(__name__)

CALLER = "cango.caller"  # in the scope, once it is known


def reachable(handler: Handler) -> Handler:
    """Without the database: 503, and nothing was accepted."""

    @wraps(handler)
    async def guarded(request: Request) -> None:
        try:
            await handler(request)
        except (OperationalError, PoolTimeout) as error:
            log.warning("database away", extra={"error": type(error).__name__})
            raise Unavailable(
                "The portal cannot reach its database. Nothing was accepted or charged; try again in a moment.",
                retry_after_seconds=5,
            ) from error

    return guarded


async def authenticated(request: Request, scope: Needed = Scope.INFERENCE.value) -> Caller:
    """The caller, if its key may do this; `scope` None asks only for a key in force.

    Raises NotAuthenticated, InsufficientScope.
    """
    address = client_address(
        (request.scope.get("client") or (None,))[0],
        request.headers.get("x-forwarded-for"),
        proxies=settings.ALLAUTH_TRUSTED_PROXY_COUNT,
    )
    caller = await keys.authenticate_async(request.bearer, address=address, agent=request.headers.get("user-agent", ""))
    request.scope[CALLER] = caller
    request.note(openai_organization=public("org", caller.organization_id))
    caller.require(scope)
    return caller

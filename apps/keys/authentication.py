"""Who calls the management API, and how it says no.

A request comes with an API key or with a member's session; either way `request.organization` is whose data it is.
"""

from __future__ import annotations

import logging
import secrets
from typing import Any, cast

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import OperationalError
from django.http import Http404
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework import exceptions, status
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.models import Organization, User
from apps.core.asgi import MethodNotAllowed, ServerError, UnsupportedMediaType
from apps.core.errors import InvalidRequest, NotAllowed, NotAuthenticated, NotFound, PortalError, Unavailable
from apps.core.logging import request_id
from apps.keys import services
from apps.keys.addresses import client_address
from apps.keys.services import Caller

log = logging.getLogger(__name__)


class NotAcceptable(PortalError):
    code, status = "not_acceptable", 406


class KeyHolder:
    """Stands where a signed-in user would: a program with a key is nobody in particular."""

    is_authenticated = True
    is_anonymous = False
    is_staff = False
    is_active = True
    pk = None


class APIKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer cango_…`. A wrong key is refused, even beside a good session."""

    def authenticate(self, request: Request) -> tuple[KeyHolder, Caller] | None:
        scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        address = client_address(
            request.META.get("REMOTE_ADDR"),
            request.META.get("HTTP_X_FORWARDED_FOR"),
            proxies=settings.ALLAUTH_TRUSTED_PROXY_COUNT,
        )
        caller = services.authenticate(token.strip(), address=address, agent=request.META.get("HTTP_USER_AGENT", ""))
        request._request.organization = Organization.objects.get(pk=caller.organization_id)  # type: ignore[attr-defined]
        return KeyHolder(), caller

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class APIKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "apps.keys.authentication.APIKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "An API key: cango_…"}


def caller_of(request: Request) -> Caller:
    """The caller of a request that passed `InOrganization`."""
    if isinstance(request.auth, Caller):
        return request.auth
    organization = cast(Organization, request.organization)  # type: ignore[attr-defined]
    return services.member(organization, cast(User, request.user))


def error_response(error: Exception, context: dict[str, Any]) -> Response:
    """Every failure of the management API in the official error shape; a bug says its number and nothing else."""
    refusal = refusal_for(error)
    response = Response(refusal.body(), status=refusal.status)
    if isinstance(refusal, NotAuthenticated):
        response["WWW-Authenticate"] = "Bearer"
    if isinstance(refusal, MethodNotAllowed) and isinstance(error, exceptions.MethodNotAllowed):
        response["Allow"] = ", ".join(context["view"].allowed_methods)
    if refusal.retryable is not None:
        response["X-Should-Retry"] = "true" if refusal.retryable else "false"
    if refusal.retry_after_seconds is not None:
        response["Retry-After"] = str(refusal.retry_after_seconds)
        response["Retry-After-Ms"] = str(refusal.retry_after_ms)
    return response


def refusal_for(error: Exception) -> PortalError:  # noqa: PLR0911  # one line for each kind
    match error:
        case PortalError():
            return error
        case Http404() | exceptions.NotFound():
            return NotFound("There is no such thing here.")
        case exceptions.NotAuthenticated() | exceptions.AuthenticationFailed():
            return NotAuthenticated("Sign in, or send an API key in the header: Authorization: Bearer cango_…")
        case exceptions.PermissionDenied() | PermissionDenied():
            return NotAllowed(str(getattr(error, "detail", "")) or "You may not do this.")
        case exceptions.MethodNotAllowed():
            return MethodNotAllowed(str(error.detail))
        case exceptions.ValidationError():
            param, message = first_of(error.detail)
            return InvalidRequest(message, param=param)
        case exceptions.UnsupportedMediaType():
            return UnsupportedMediaType("Send application/json, or multipart/form-data with a file.")
        case exceptions.NotAcceptable():
            return NotAcceptable(str(error.detail))
        case exceptions.APIException() if error.status_code < status.HTTP_500_INTERNAL_SERVER_ERROR:
            return InvalidRequest(str(error.detail))
        case OperationalError():
            return Unavailable(
                "The portal cannot reach its database. Nothing was accepted or charged; try again in a moment.",
                retry_after_seconds=5,
            )
    number = request_id.get() or f"req_{secrets.token_hex(16)}"
    log.error("request failed", exc_info=error, extra={"request": number})
    return ServerError(f"The portal made a mistake. Quote {number} when you ask about it.")


def first_of(detail: Any, param: str = "") -> tuple[str | None, str]:
    """The first complaint of a serializer, and the field it is about."""
    while isinstance(detail, dict | list) and detail:
        if isinstance(detail, dict):
            name, detail = next(iter(detail.items()))
            if name != "non_field_errors":
                param = f"{param}.{name}" if param else str(name)
        else:
            detail = detail[0]
    return param or None, str(detail)

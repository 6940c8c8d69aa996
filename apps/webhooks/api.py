"""/api/v1/webhooks: the pages' verbs for programs. A key with the scope `webhooks` manages them as a developer does."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.api import InOrganization, organization_of
from apps.accounts.models import User
from apps.accounts.scopes import Scope
from apps.core import ids
from apps.core.errors import InvalidRequest, NotFound
from apps.webhooks import selectors, services
from apps.webhooks.models import Endpoint
from apps.webhooks.serializers import (
    DeliveryPageSerializer,
    DeliverySerializer,
    PageRequestSerializer,
    WebhookChangeSerializer,
    WebhookListSerializer,
    WebhookRequestSerializer,
    WebhookSerializer,
    WebhookWithSecretSerializer,
)


class WebhooksAPI(APIView):
    permission_classes = (InOrganization,)
    scope = Scope.WEBHOOKS

    def endpoint(self, public_id: str) -> Endpoint:
        found = selectors.endpoint_of(organization_of(self.request), public_id)
        if found is None:
            raise NotFound("There is no such webhook.", code="webhook_not_found")
        return found

    @property
    def member(self) -> User | None:
        return self.request.user if isinstance(self.request.user, User) else None


class WebhooksView(WebhooksAPI):
    @extend_schema(operation_id="webhooks", summary="Your webhooks, newest first", responses=WebhookListSerializer)
    def get(self, request: Request) -> Response:
        endpoints = Endpoint.objects.of(organization_of(request))
        return Response({"object": "list", "data": WebhookSerializer(endpoints, many=True).data})

    @extend_schema(
        operation_id="create_webhook",
        summary="Create a webhook",
        description="The answer holds the signing secret, this once.",
        request=WebhookRequestSerializer,
        responses={201: WebhookWithSecretSerializer},
    )
    def post(self, request: Request) -> Response:
        asked = WebhookRequestSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        endpoint, secret = services.create(
            organization=organization_of(request),
            user=self.member,
            **{"event_types": [], **asked.validated_data},
        )
        return Response(
            with_secret(endpoint, secret),
            status=status.HTTP_201_CREATED,
            headers={"Location": f"/api/v1/webhooks/{endpoint.public_id}"},
        )


class WebhookView(WebhooksAPI):
    @extend_schema(operation_id="webhook", summary="One webhook", responses=WebhookSerializer)
    def get(self, request: Request, public_id: str) -> Response:
        return Response(WebhookSerializer(self.endpoint(public_id)).data)

    @extend_schema(
        operation_id="change_webhook",
        summary="Change a webhook, or turn it off and on",
        description="What is absent stays as it is.",
        request=WebhookChangeSerializer,
        responses=WebhookSerializer,
    )
    def patch(self, request: Request, public_id: str) -> Response:
        endpoint = self.endpoint(public_id)
        asked = WebhookChangeSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        given = dict(asked.validated_data)
        enabled = given.pop("enabled", None)
        if given:
            services.change(endpoint, user=self.member, **{**services.shape(endpoint), **given})
        if enabled is not None:
            (services.enable if enabled else services.disable)(endpoint, user=self.member)
        return Response(WebhookSerializer(self.endpoint(public_id)).data)

    @extend_schema(
        operation_id="delete_webhook", summary="Delete a webhook and its log", request=None, responses={204: None}
    )
    def delete(self, request: Request, public_id: str) -> Response:
        services.delete(self.endpoint(public_id), user=self.member)
        return Response(status=status.HTTP_204_NO_CONTENT)


class TestWebhook(WebhooksAPI):
    @extend_schema(
        operation_id="test_webhook",
        summary="Send a test event",
        description="`webhook.test`, to this webhook alone.",
        request=None,
        responses={202: DeliverySerializer},
    )
    def post(self, request: Request, public_id: str) -> Response:
        delivery = services.send_test(self.endpoint(public_id))
        return Response(DeliverySerializer(delivery).data, status=status.HTTP_202_ACCEPTED)


class RotateWebhook(WebhooksAPI):
    @extend_schema(
        operation_id="rotate_webhook",
        summary="Replace the signing secret",
        description="The answer holds the new secret, this once. The one before signs too for 24 hours.",
        request=None,
        responses=WebhookWithSecretSerializer,
    )
    def post(self, request: Request, public_id: str) -> Response:
        secret = services.rotate(self.endpoint(public_id), user=self.member)
        return Response(with_secret(self.endpoint(public_id), secret))


class DeliveriesView(WebhooksAPI):
    @extend_schema(
        operation_id="webhook_deliveries",
        summary="What was sent to a webhook, newest first",
        parameters=[PageRequestSerializer],
        responses=DeliveryPageSerializer,
    )
    def get(self, request: Request, public_id: str) -> Response:
        endpoint = self.endpoint(public_id)
        asked = PageRequestSerializer(data=request.query_params.dict())
        asked.is_valid(raise_exception=True)
        given = asked.validated_data
        after = ids.parse("dlv", given["after"]) if "after" in given else None
        if "after" in given and after is None:
            raise InvalidRequest("'after' is not a delivery's id.", param="after", code="invalid_value")
        page = selectors.page(endpoint, after=after, size=given["limit"])
        return Response(
            {
                "object": "list",
                "data": DeliverySerializer(page.deliveries, many=True).data,
                "has_more": bool(page.older),
            }
        )


class ReplayDelivery(WebhooksAPI):
    @extend_schema(
        operation_id="replay_webhook_delivery",
        summary="Send an event once more",
        description="A new delivery of the same message, under the same `webhook-id`.",
        request=None,
        responses={202: DeliverySerializer},
    )
    def post(self, request: Request, public_id: str, delivery_id: str) -> Response:
        delivery = selectors.delivery_of(self.endpoint(public_id), delivery_id)
        if delivery is None:
            raise NotFound("There is no such delivery.", code="delivery_not_found")
        return Response(DeliverySerializer(services.replay(delivery)).data, status=status.HTTP_202_ACCEPTED)


def with_secret(endpoint: Endpoint, secret: str) -> dict[str, Any]:
    return {**WebhookSerializer(endpoint).data, "secret": secret}

"""/api/v1/keys, /api/v1/members and /api/v1/organization: the pages' verbs for programs. A key needs the scope `manage`, a member the role."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.db.models import prefetch_related_objects
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.api import InOrganization, organization_of
from apps.accounts.models import Membership, User
from apps.accounts.permissions import may_pay
from apps.accounts.rights import WHY, Right
from apps.accounts.scopes import Needed, Scope
from apps.core import ids
from apps.core.errors import InvalidRequest, NotAllowed, NotFound
from apps.keys import figures, givers, members, permits, residency, services
from apps.keys.figures import Figures
from apps.keys.models import APIKey
from apps.keys.permits import Permit
from apps.keys.serializers import (
    KeyChangeSerializer,
    KeyFilterSerializer,
    KeyPageSerializer,
    KeyRequestSerializer,
    KeySerializer,
    KeyWithSecretSerializer,
    MemberChangeSerializer,
    MemberFilterSerializer,
    MemberPageSerializer,
    MemberSerializer,
    OrganizationChangeSerializer,
    OrganizationSerializer,
    ReplaceKeySerializer,
)
from apps.keys.services import Caller
from apps.ledger.budgets import PERIODS, Period


class Managing(APIView):
    permission_classes = (InOrganization,)
    scope: Needed | dict[str, Needed] = Scope.MANAGE

    @property
    def member(self) -> User | None:
        return self.request.user if isinstance(self.request.user, User) else None

    @property
    def membership(self) -> Membership | None:
        """Of the member who calls; None where a key does."""
        membership = getattr(self.request, "membership", None)
        return membership if self.member and isinstance(membership, Membership) else None

    @property
    def role(self) -> str | None:
        return self.membership.role if self.membership else None

    def require(self, right: Right) -> None:
        """Of a member; what a key may is its scope. Raises NotAllowed."""
        if self.member and not (self.membership and self.membership.may(right)):
            raise NotAllowed(str(WHY[right]))

    def calling_key(self) -> APIKey | None:
        caller = self.request.auth
        if not isinstance(caller, Caller) or caller.api_key_id is None:
            return None
        return APIKey.objects.select_related("created_by", "budget", "organization").get(pk=caller.api_key_id)


class KeysAPI(Managing):
    def key(self, public_id: str) -> APIKey:
        pk = ids.parse("key", public_id)
        keys = APIKey.objects.of(organization_of(self.request)).select_related("organization", "created_by", "budget")
        found = keys.filter(pk=pk).prefetch_related("rate_limits").first() if pk else None
        if found is None:
            raise NotFound("There is no such key.", code="key_not_found")
        return found

    def changeable(self, public_id: str) -> APIKey:
        """As on the pages: owners and admins any key, others those they made; a key those that may do no more than itself.

        One with a spending limit only those that spend from it too.
        """
        key = self.key(public_id)
        by = self.calling_key()
        if by is not None:
            permits.given_by_key(permits.of(key), permits.of(by))
            figures.given_by_key(figures.of(key), figures.of(by))
            if services.has_limit(by) and key.budget_id != by.budget_id:
                raise permits.beyond("limits")
        else:
            self.require(Right.KEYS)
            if key.created_by_id != self.request.user.pk:
                self.require(Right.EVERY_KEY)
        return key

    def allowed(self, permit: Permit, *, before: Permit | None = None) -> Permit:
        """Checked, and no more than the caller may give. Raises InvalidRequest and BeyondPermit."""
        permit = permits.checked(permit, organization_of(self.request), before=before)
        by = self.calling_key()
        if by is not None:
            permits.given_by_key(permit, permits.of(by))
        else:
            permits.given_by_role(permit, self.role or Membership.Role.BILLING, before=before)
        return permit

    def allowed_spending(self, given: dict[str, Any], *, new: bool = False) -> dict[Period, int | None]:
        """The limits that the request names, in micro-USD. As on the pages: on a new key by whoever makes it, later by those
        who pay; by a key whose maker pays and that has no limit itself, or it would lift its own. Raises NotAllowed and BeyondPermit.
        """
        asked = given.get("limits")
        if asked is None:
            return {}
        by = self.calling_key()
        if by is not None and services.has_limit(by):
            raise permits.beyond("limits")
        if not new and not (may_pay(self.membership) if by is None else givers.maker_may(by, Right.PAY)):
            raise NotAllowed(str(WHY[Right.PAY]))
        return {period: asked[name] for period in PERIODS if (name := f"{period}_microusd") in asked}

    def allowed_rates(self, rates: Figures) -> Figures:
        """No more than the caller may give. Raises BeyondPermit."""
        by = self.calling_key()
        if by is not None:
            figures.given_by_key(rates, figures.of(by))
        return rates


def permit_in(given: dict[str, Any], before: Permit) -> Permit:
    """`before` with what the request names."""
    lists = ("scopes", "allowed_models", "residency", "ip_ranges")
    asked: dict[str, Any] = {name: permits.optional(given[name]) for name in lists if name in given}
    if "expires_at" in given:
        asked["expires_at"] = given["expires_at"]
    return replace(before, **asked)


def rates_in(given: dict[str, Any], before: Figures) -> Figures:
    """`before` with what the request names."""
    return {name: given.get(name, figure) for name, figure in before.items()}


class KeysView(KeysAPI):
    @extend_schema(
        operation_id="keys",
        summary="Your API keys, newest first",
        parameters=[KeyFilterSerializer],
        responses=KeyPageSerializer,
    )
    def get(self, request: Request) -> Response:
        asked = KeyFilterSerializer(data=request.query_params.dict())
        asked.is_valid(raise_exception=True)
        given = asked.validated_data
        keys = APIKey.objects.of(organization_of(request)).select_related("created_by", "budget").order_by("-id")
        keys = keys.prefetch_related("rate_limits")
        if "after" in given:
            last = ids.parse("key", given["after"])
            if last is None:
                raise InvalidRequest("'after' is not an API key's id.", param="after", code="invalid_value")
            keys = keys.filter(pk__lt=last)
        found = list(keys[: given["limit"] + 1])
        page = found[: given["limit"]]
        return Response(
            {"object": "list", "data": KeySerializer(page, many=True).data, "has_more": len(found) > len(page)}
        )

    @extend_schema(
        operation_id="create_key",
        summary="Create an API key",
        description="The answer holds the secret, this once. A key gives another no more than it has itself; where it has "
        "a limit, both spend from it.",
        request=KeyRequestSerializer,
        responses={201: KeyWithSecretSerializer},
    )
    def post(self, request: Request) -> Response:
        self.require(Right.KEYS)
        asked = KeyRequestSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        given = asked.validated_data
        key, secret = services.issue(
            organization=organization_of(request),
            name=given["name"],
            user=self.member,
            permit=self.allowed(permit_in(given, Permit())),
            rates=self.allowed_rates(rates_in(given, figures.figures_of(None))),
            spending=self.allowed_spending(given, new=True),
            by=self.calling_key(),
        )
        return with_secret(key, secret)


class KeyView(KeysAPI):
    @extend_schema(operation_id="key", summary="One API key", responses=KeySerializer)
    def get(self, request: Request, public_id: str) -> Response:
        return Response(KeySerializer(self.key(public_id)).data)

    @extend_schema(
        operation_id="change_key",
        summary="Change an API key",
        description="What is absent stays as it is. In force for the key's next request.",
        request=KeyChangeSerializer,
        responses=KeySerializer,
    )
    def patch(self, request: Request, public_id: str) -> Response:
        key = self.key(public_id)
        asked = KeyChangeSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        given = asked.validated_data
        if self.member is None or given.keys() != {"limits"}:
            self.changeable(public_id)
        before = permits.of(key)
        permit = permit_in(given, before)
        services.change(
            key=key,
            name=given.get("name", key.name),
            permit=before if permit == before else self.allowed(permit, before=before),
            seen=before,
            spending=self.allowed_spending(given),
            rates=self.allowed_rates(rates_in(given, figures.of(key))),
            user=self.member,
            by=self.calling_key(),
        )
        return Response(KeySerializer(self.key(public_id)).data)


class ReplaceKey(KeysAPI):
    @extend_schema(
        operation_id="replace_key",
        summary="Replace an API key",
        description="Another key with the same rights and limits; the old one works on for `overlap_seconds`. The answer "
        "holds the new secret, this once.",
        request=ReplaceKeySerializer,
        responses={201: KeyWithSecretSerializer},
    )
    def post(self, request: Request, public_id: str) -> Response:
        key = self.changeable(public_id)
        asked = ReplaceKeySerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        overlap = timedelta(seconds=int(asked.validated_data["overlap_seconds"]))
        new, secret = services.replace_key(key=key, overlap=overlap, user=self.member, by=self.calling_key())
        return with_secret(new, secret)


class RevokeKey(KeysAPI):
    @extend_schema(
        operation_id="revoke_key",
        summary="Revoke an API key",
        description="In force everywhere with its next request; accepted work goes on. Safe to repeat.",
        request=None,
        responses=KeySerializer,
    )
    def post(self, request: Request, public_id: str) -> Response:
        services.revoke(
            key=self.changeable(public_id), user=self.member, by=self.calling_key(), reason="revoked through the API"
        )
        return Response(KeySerializer(self.key(public_id)).data)


def with_secret(key: APIKey, secret: str) -> Response:
    prefetch_related_objects([key], "rate_limits")
    return Response(
        {**KeySerializer(key).data, "secret": secret},
        status=status.HTTP_201_CREATED,
        headers={"Location": f"/api/v1/keys/{key.public_id}", "Cache-Control": "no-store"},
    )


class OrganizationView(Managing):
    scope = {"GET": None, "PATCH": Scope.MANAGE}

    @extend_schema(operation_id="organization", summary="Your organization", responses=OrganizationSerializer)
    def get(self, request: Request) -> Response:
        return Response(OrganizationSerializer(organization_of(request)).data)

    @extend_schema(
        operation_id="change_organization",
        summary="Change where your organization's work may run",
        description="In force for the next request, of every key and page. By an owner or admin; a key that manages only narrows "
        "them, to places where its own work may run.",
        request=OrganizationChangeSerializer,
        responses=OrganizationSerializer,
    )
    def patch(self, request: Request) -> Response:
        self.require(Right.SETTINGS)
        asked = OrganizationChangeSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        organization, by = organization_of(request), self.calling_key()
        if "residency" in asked.validated_data:
            rule = permits.optional(asked.validated_data["residency"])
            residency.set_rule(organization=organization, residency=rule, user=self.member, by=by)
        return self.get(request)


class MembersAPI(Managing):
    def found(self, public_id: str) -> Membership:
        number = public_id.removeprefix("mem_")
        ours = Membership.objects.filter(organization=organization_of(self.request)).select_related("user")
        found = ours.filter(pk=int(number)).first() if is_number(number) and public_id != number else None
        if found is None:
            raise NotFound("There is no such member.", code="member_not_found")
        return found


def is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < len(str(2**63 - 1))


class MembersView(MembersAPI):
    @extend_schema(
        operation_id="members",
        summary="Members of your organization, by when they joined",
        parameters=[MemberFilterSerializer],
        responses=MemberPageSerializer,
    )
    def get(self, request: Request) -> Response:
        asked = MemberFilterSerializer(data=request.query_params.dict())
        asked.is_valid(raise_exception=True)
        given = asked.validated_data
        rows = Membership.objects.filter(organization=organization_of(request)).select_related("user").order_by("pk")
        if "after" in given:
            number = given["after"].removeprefix("mem_")
            if not is_number(number) or number == given["after"]:
                raise InvalidRequest("'after' is not a member's id.", param="after", code="invalid_value")
            rows = rows.filter(pk__gt=int(number))
        found = list(rows[: given["limit"] + 1])
        page = found[: given["limit"]]
        return Response(
            {"object": "list", "data": MemberSerializer(page, many=True).data, "has_more": len(found) > len(page)}
        )


class MemberView(MembersAPI):
    @extend_schema(operation_id="member", summary="One member", responses=MemberSerializer)
    def get(self, request: Request, public_id: str) -> Response:
        return Response(MemberSerializer(self.found(public_id)).data)

    @extend_schema(
        operation_id="change_member",
        summary="Change a member's role",
        description="One owner is left at least. A member gives and takes roles up to their own (403 beyond_role). Keys they made lose what the new role may not give; those of a viewer keep inference, batches and usage until they are revoked. An API key changes "
        "neither an owner nor makes one (403 owner_required), nor gives a role that may more than its scopes (403 "
        "beyond_permit).",
        request=MemberChangeSerializer,
        responses=MemberSerializer,
    )
    def patch(self, request: Request, public_id: str) -> Response:
        self.require(Right.MEMBERS)
        membership = self.found(public_id)
        asked = MemberChangeSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        changed = members.change_role(
            membership=membership, role=asked.validated_data["role"], user=self.member, by=self.calling_key()
        )
        return Response(MemberSerializer(changed).data)

    @extend_schema(
        operation_id="remove_member",
        summary="Remove a member",
        description="Anybody may leave, owners and admins remove; one owner is left at least. The keys they made go on, but manage nothing any more; revoke those they "
        "know. An API key removes no owner: 403 owner_required.",
        request=None,
        responses={204: None},
    )
    def delete(self, request: Request, public_id: str) -> Response:
        membership = self.found(public_id)
        if self.member is None or membership.user_id != self.member.pk:  # anybody leaves
            self.require(Right.MEMBERS)
        members.remove(membership=membership, user=self.member, by=self.calling_key())
        return Response(status=status.HTTP_204_NO_CONTENT)

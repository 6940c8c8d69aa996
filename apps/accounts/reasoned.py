"""Acts of staff carry a reason: admin actions with a page that asks for one, and forms that do not save without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db import models, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from apps.accounts import audit
from apps.accounts.models import Organization, User
from apps.accounts.readonly import M, PortalAdmin, _Admin
from apps.core.errors import NotAllowed, PortalError

MAX_ROWS = 100
REASON_LENGTH = 200

A = TypeVar("A", bound="ReasonedActions[Any]")
R = TypeVar("R", bound=models.Model)


def reason_field() -> forms.CharField:
    return forms.CharField(
        label="Reason",
        max_length=REASON_LENGTH,
        widget=forms.Textarea(attrs={"rows": 2, "cols": 60}),
        help_text="Kept in the audit trail with your name.",
    )


class ReasonForm(forms.Form):
    reason = reason_field()


@dataclass(frozen=True, slots=True)
class Given:
    """What the confirmation page was answered: who acts, why, and the form's other fields."""

    user: User
    reason: str
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reasoned:
    """How an action presents itself. `when` says for which rows its button stands on the change page."""

    description: str
    consequence: str
    form: type[ReasonForm]
    when: Callable[[Any], bool]


def staff(request: HttpRequest) -> User:
    user = request.user
    if not isinstance(user, User) or not user.is_staff:
        raise NotAllowed("Only staff may do this.")
    return user


def reasoned(
    *,
    description: str,
    consequence: str,
    form: type[ReasonForm] = ReasonForm,
    when: Callable[[Any], bool] = lambda row: True,
) -> Callable[[Callable[[A, R, Given], None]], Callable[[A, HttpRequest, models.QuerySet[R]], HttpResponse | None]]:
    """Make an admin action out of an act on one row.

    The act runs after a page that asks for a reason, once for each selected row, and refuses with a PortalError.
    Refused rows stay selected on that page with their message; the others are done. The act writes its own audit event.
    """

    def decorate(
        act: Callable[[A, R, Given], None],
    ) -> Callable[[A, HttpRequest, models.QuerySet[R]], HttpResponse | None]:
        @admin.action(description=f"{description}…", permissions=["act"])
        @wraps(act)
        def action(self: A, request: HttpRequest, queryset: models.QuerySet[R]) -> HttpResponse | None:
            rows = list(queryset[: MAX_ROWS + 1])
            if len(rows) > MAX_ROWS:
                self.message_user(request, f"Select at most {MAX_ROWS} rows at a time.", messages.ERROR)
                return None
            confirmed = "confirm" in request.POST
            answers = form(request.POST) if confirmed else form()
            refusals: list[tuple[R, str]] = []
            if confirmed and answers.is_valid():
                fields = dict(answers.cleaned_data)
                given = Given(user=staff(request), reason=fields.pop("reason"), fields=fields)
                for row in rows:
                    try:
                        act(self, row, given)
                    except PortalError as refusal:
                        refusals.append((row, refusal.message))
                done = len(rows) - len(refusals)
                if done:
                    self.message_user(request, f"{description}: done for {done}.", messages.SUCCESS)
                if not refusals:
                    return self.after(request, rows)
                rows = [row for row, _ in refusals]
            return TemplateResponse(
                request,
                "admin/reason.html",
                {
                    **self.admin_site.each_context(request),
                    "title": description,
                    "opts": self.opts,
                    "media": self.media,
                    "rows": rows,
                    "refusals": refusals,
                    "form": answers,
                    "consequence": consequence,
                    "action": action.__name__,
                    "checkbox": ACTION_CHECKBOX_NAME,
                    "origin": request.POST.get("origin", ""),
                },
            )

        action.reasoned = Reasoned(description, consequence, form, when)  # type: ignore[attr-defined]
        return action

    return decorate


class ReasonedActions(_Admin[M]):
    """Mixin for admins with `@reasoned` actions: who may act, and a button for each on the change page."""

    change_form_template = "admin/reasoned_change_form.html"

    def has_act_permission(self, request: HttpRequest) -> bool:
        """Rows that nobody edits are acted on by those who would be allowed to change them."""
        return bool(request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}"))

    def after(self, request: HttpRequest, rows: Sequence[models.Model]) -> HttpResponse | None:
        if request.POST.get("origin") == "change" and len(rows) == 1:
            return HttpResponseRedirect(
                reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", args=[rows[0].pk])
            )
        return None

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        actions: dict[str, Any] = self.get_actions(request) or {}
        shown = [(name, getattr(call, "reasoned", None)) for name, (call, _, _) in actions.items()]
        context = {"reasoned": [(name, how) for name, how in shown if how], "checkbox": ACTION_CHECKBOX_NAME}
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        row = context.get("original")
        if row is not None:
            context["reasoned"] = [
                (name, shown.description) for name, shown in context.get("reasoned", []) if shown.when(row)
            ]
        return super().render_change_form(request, context, *args, **kwargs)


if TYPE_CHECKING:

    class _ModelForm(forms.ModelForm[models.Model]): ...
else:
    _ModelForm = forms.ModelForm


class ReasonedModelForm(_ModelForm):
    """A form of staff: what it changes is kept with the reason. (`reason` alone is a column of some models.)"""

    staff_reason = reason_field()


class ReasonedAdmin(PortalAdmin[M]):
    """Rows that staff edit. Saving needs a reason and writes `<model>.added` or `<model>.changed` with the fields' names."""

    form = ReasonedModelForm  # type: ignore[assignment]

    def organization_of(self, row: M) -> Organization | None:
        """Whose audit trail the change belongs to; None for the platform's own things."""
        return None

    def target_of(self, row: M) -> str:
        return str(row)

    def save_model(self, request: HttpRequest, obj: M, form: Any, change: bool) -> None:
        noun = str(self.opts.verbose_name).lower().replace(" ", "_")
        with transaction.atomic():
            super().save_model(request, obj, form, change)
            audit.record(
                organization=self.organization_of(obj),
                actor=staff(request),
                action=f"{noun}.{'changed' if change else 'added'}",
                target=self.target_of(obj),
                reason=form.cleaned_data["staff_reason"],
                data={"fields": sorted(set(form.changed_data) - {"staff_reason"})},
            )

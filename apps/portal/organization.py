"""The organization's own page: its name, where it runs, and how long text is kept. Owners and admins change it, members read."""

from django.contrib import messages
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from apps.accounts import services
from apps.accounts.permissions import MemberRequest, organization_required, require
from apps.accounts.rights import Right
from apps.batches import keeping
from apps.dispatch.tasks import forget_soon
from apps.keys import residency
from apps.portal.forms import OrganizationForm
from cango_portal import database


@never_cache
@organization_required
@require_http_methods(["GET", "HEAD", "POST"])
def organization(request: MemberRequest) -> HttpResponse:
    owned = request.organization
    if request.method == "POST":
        require(request, Right.SETTINGS)
    posted = request.POST if request.method == "POST" else None
    form = OrganizationForm(posted, initial={"name": owned.name, "keep_text_days": owned.keep_text_days})
    if request.method == "POST" and form.is_valid():
        fewer = form.cleaned_data["keep_text_days"] < owned.keep_text_days
        with transaction.atomic():
            changed = services.describe(organization=owned, user=request.user, **form.cleaned_data)
            if changed and fewer:
                database.run(keeping.shorten(owned.pk))
        if changed:
            messages.success(request, gettext("Saved."))
            if fewer:
                forget_soon(owned.pk)
        return redirect("portal:organization")
    rule = None if owned.residency is None else residency.words(owned.residency)
    context = {"form": form, "rule": rule}
    return render(request, "portal/organization.html", context, status=422 if form.errors else 200)

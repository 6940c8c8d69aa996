"""Acts on jobs from pages: try a model, cancel a job."""

from __future__ import annotations

from dataclasses import replace

from django.db import IntegrityError
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from apps.accounts import tickets
from apps.accounts.permissions import MemberRequest, organization_required
from apps.catalog import offers
from apps.catalog.models import Model
from apps.core.errors import InvalidRequest, PortalError
from apps.core.ids import public
from apps.dispatch import intake, repeating, services
from apps.dispatch.forms import TryForm
from apps.dispatch.work import Submitted
from apps.files import services as files
from apps.jobs import refusals
from apps.jobs.models import Job
from apps.jobs.pages import job as pages
from apps.jobs.views import job_of
from apps.keys import services as keys
from apps.keys.services import Caller
from cango_portal import database


@never_cache
@organization_required
@require_http_methods(["GET", "HEAD", "POST"])
def cancel(request: MemberRequest, public_id: str) -> HttpResponse:
    """What stays, what it costs and what returns; then the act itself, which is safe to repeat."""
    job_id = job_of(request, public_id)
    if request.method == "POST":
        services.cancel(job_id=job_id, actor=request.user)
        return redirect("jobs:detail", public_id)
    page = pages.load(job_id)
    return render(request, "dispatch/cancel.html", {"page": page, "job": page.job})


@organization_required
@require_POST
def again(request: MemberRequest, public_id: str) -> HttpResponse:
    """The same work once more, as a background job of whoever asks; then to it."""
    page = pages.load(job_of(request, public_id))
    if not page.repeatable:
        return redirect(f"{page.model_url}#try")
    job_id = tickets.read("job", request.POST.get("job", ""))
    made = redirect("jobs:detail", public("job", job_id))
    if Job.objects.of(request.organization).filter(pk=job_id).exists():  # sent twice
        return made
    caller = keys.member(request.organization, request.user)
    name = page.job.model.name
    try:
        work = repeating.work(page.job)
        services.submit(caller=caller, work=replace(work, job_id=job_id))
        return made
    except IntegrityError:  # sent twice at the same moment
        return made
    except PortalError as error:
        if isinstance(error, intake.NOTED):
            record(caller, name, error)
        return render(
            request,
            "dispatch/again.html",
            {"page": page, "job": page.job, "ticket": tickets.new("job"), "message": error.message},
            status=422 if isinstance(error, InvalidRequest) else error.status,
        )


@organization_required
@require_POST
def try_model(request: MemberRequest, publisher: str, name: str) -> HttpResponse:
    """Make a background job of the form on a model's page and go to it."""
    offer = database.run(offers.offer(f"{publisher}/{name}"))
    if offer is None:
        raise Http404
    form = TryForm(offer, request.POST, request.FILES)
    status = 422
    if form.is_valid():
        caller = keys.member(request.organization, request.user)
        job_id = form.cleaned_data["job"]
        if Job.objects.of(request.organization).filter(pk=job_id).exists():  # sent twice
            return redirect("jobs:detail", public("job", job_id))
        try:
            submit(request, caller, form)
            return redirect("jobs:detail", public("job", job_id))
        except IntegrityError:  # sent twice at the same moment
            return redirect("jobs:detail", public("job", job_id))
        except PortalError as error:
            status = 422 if isinstance(error, InvalidRequest) else error.status
            form.refuse(error.message, error.param)
            if isinstance(error, intake.NOTED):
                record(caller, offer.name, error)
    return render(
        request,
        "dispatch/try.html",
        {"form": form, "offer": offer, "publisher": publisher, "name": name},
        status=status,
    )


def submit(request: MemberRequest, caller: Caller, form: TryForm) -> Submitted:
    """Raises PortalError, and IntegrityError for a job that exists; then nothing is kept, the file neither."""
    job_id = form.cleaned_data["job"]
    if form.offer.kind != Model.Kind.OCR:
        work = intake.background_work(form.offer, form.body())
        return services.submit(caller=caller, work=replace(work, job_id=job_id))
    file = files.store(organization=request.organization, upload=form.cleaned_data["file"])
    try:
        return services.submit(caller=caller, work=replace(intake.ocr_work(form.offer, file), job_id=job_id))
    except BaseException:
        files.discard(file.pk, file.path)
        raise


def record(caller: Caller, model_name: str, error: PortalError) -> None:
    """Keep a refusal for the customer's list."""
    database.run(
        refusals.record(
            organization_id=caller.organization_id,
            api_key_id=None,
            model_name=model_name,
            code=error.reason,
            message=error.message,
        )
    )

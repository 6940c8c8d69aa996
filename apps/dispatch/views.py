"""Acts on jobs from pages: the playground, cancel a job, run it again."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from urllib.parse import urlencode
from uuid import UUID

from django.db import IntegrityError
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST
from django.views.decorators.vary import vary_on_headers

from apps.accounts import tickets
from apps.accounts.permissions import MemberRequest, work_required
from apps.catalog.models import Model
from apps.catalog.offers import Offer
from apps.core.errors import InvalidRequest, PortalError
from apps.core.ids import public
from apps.dispatch import intake, repeating, services
from apps.dispatch.forms import PlaygroundForm
from apps.dispatch.playground import Playground
from apps.dispatch.work import Submitted
from apps.files import services as files
from apps.jobs import reasons, refusals
from apps.jobs.models import Job
from apps.jobs.pages import job as pages
from apps.jobs.views import job_of
from apps.keys import services as keys
from apps.keys.services import Caller
from cango_portal import database


@never_cache
@work_required
@require_http_methods(["GET", "HEAD", "POST"])
def cancel(request: MemberRequest, public_id: str) -> HttpResponse:
    """What stays, what it costs and what returns; then the act itself, which is safe to repeat."""
    job_id = job_of(request, public_id)
    if request.method == "POST":
        services.cancel(job_id=job_id, actor=request.user)
        if request.htmx:  # the page that shows it hears of it
            return HttpResponse(status=204)
        return redirect("jobs:detail", public_id)
    page = pages.load(job_id)
    return render(request, "dispatch/cancel.html", {"page": page, "job": page.job})


@work_required
@require_POST
def again(request: MemberRequest, public_id: str) -> HttpResponse:
    """The same work once more, as a background job of whoever asks; then to it."""
    page = pages.load(job_of(request, public_id))
    if not page.repeatable:
        return redirect(f"{reverse('dispatch:playground')}?{urlencode({'model': page.job.model.name}, safe='/')}")
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
            {"page": page, "job": page.job, "ticket": tickets.new("job"), "message": reasons.said(error.message)},
            status=422 if isinstance(error, InvalidRequest) else error.status,
        )


@never_cache
@vary_on_headers("HX-Request")
@work_required
@require_http_methods(["GET", "HEAD", "POST"])
def playground(request: MemberRequest) -> HttpResponse:
    """A form that sends background jobs and shows them as they run. Without script one job leads to its own page."""
    page = Playground(
        request.organization,
        request.user,
        request.GET if request.method != "POST" else request.POST,
        api_url=request.build_absolute_uri("/v1"),
        jobs_url=request.build_absolute_uri(reverse("api-jobs")),
    )
    status = 200
    if request.method == "POST":
        if page.offer is None or page.unknown:
            raise Http404
        status = run(request, page, page.offer)
        if page.runs and status == 200 and not request.htmx:
            one = len(page.runs) == 1
            return redirect("jobs:detail", page.runs[0].job.public_id) if one else redirect(page.address)
    context = {"page": page, "form": page.form}
    if request.htmx and request.htmx.target == "play-code":
        answer = render(request, "dispatch/_code.html", context)
        answer["HX-Replace-Url"] = page.address
        return answer
    template = "dispatch/_playground.html" if request.htmx else "dispatch/playground.html"
    answer = render(request, template, context, status=422 if status != 200 and request.htmx else status)
    if request.htmx:
        answer["HX-Push-Url"] = page.address
    return answer


def run(request: MemberRequest, page: Playground, offer: Offer) -> int:
    """Make a job of the form for each model. What was made is in `page.runs`; a refusal is on the form, with its status."""
    form = page.form = PlaygroundForm(offer, page.other, request.POST, request.FILES)
    if not form.is_valid():
        return 422
    caller = keys.member(request.organization, request.user)
    made, status = [], 200
    for model, job_id in ((offer, form.cleaned_data["job"]), (page.other, form.cleaned_data["second"])):
        if model is None:
            continue
        try:
            if not Job.objects.of(request.organization).filter(pk=job_id).exists():  # or it was sent twice
                with contextlib.suppress(IntegrityError):  # sent twice at the same moment
                    submit(request, caller, model, form, job_id)
            made.append(public("job", job_id))
        except PortalError as error:
            status = 422 if isinstance(error, InvalidRequest) else error.status
            words = reasons.said(error.message)
            words = f"{model.title}: {words}" if page.other else words
            form.refuse(words, None if made else error.param)
            if isinstance(error, intake.NOTED):
                record(caller, model.name, error)
            break
    page.runs = page.found(made)
    if status == 200:
        page.form = page.fresh()
    return status


def submit(request: MemberRequest, caller: Caller, offer: Offer, form: PlaygroundForm, job_id: UUID) -> Submitted:
    """Raises PortalError, and IntegrityError for a job that exists; then nothing is kept, the file neither."""
    if offer.kind != Model.Kind.OCR:
        work = intake.background_work(offer, form.body())
        return services.submit(caller=caller, work=replace(work, job_id=job_id))
    file = files.store(organization=request.organization, upload=form.cleaned_data["file"])
    try:
        return services.submit(caller=caller, work=replace(intake.ocr_work(offer, file), job_id=job_id))
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

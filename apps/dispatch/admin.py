"""The act on jobs, and the outbox. An order's body is what a customer sent: it is not shown."""

from django.contrib import admin

from apps.accounts.readonly import HistoryAdmin
from apps.accounts.reasoned import Given, ReasonedActions, reasoned
from apps.core.errors import NotAllowed
from apps.dispatch import services
from apps.dispatch.models import Order
from apps.jobs.admin import JobAdmin
from apps.jobs.models import Job


@admin.register(Job)
class CancellableJobAdmin(ReasonedActions[Job], JobAdmin):
    actions = ["cancel"]

    @reasoned(
        description="Cancel",
        consequence="A job that has not started ends at no cost. One that runs is stopped and charged for what it gave.",
        when=lambda job: not job.is_final,
    )
    def cancel(self, row: Job, given: Given) -> None:
        if row.is_final:
            raise NotAllowed("It has ended before.")
        services.cancel(job_id=row.pk, actor=given.user, reason=given.reason)


@admin.register(Order)
class OrderAdmin(HistoryAdmin[Order]):
    list_display = ["created_at", "job", "attempt", "queue", "resent_at"]
    list_select_related = ["job"]
    list_filter = [("resent_at", admin.EmptyFieldListFilter)]
    search_fields = ["queue__exact"]
    search_help_text = "Queue or job_…"
    public_ids = {"job": "job"}
    ordering = ["-pk"]
    fields = ["job", "attempt", "queue", "created_at", "resent_at"]

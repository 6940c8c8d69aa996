from celery import shared_task

from apps.jobs import refusals
from cango_portal import database


@shared_task(name="jobs.forget_refusals")
def forget_refusals() -> None:
    database.run(refusals.forget())

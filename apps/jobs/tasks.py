from celery import shared_task

from apps.jobs import refusals, rollup
from cango_portal import database


@shared_task(name="jobs.forget_refusals")
def forget_refusals() -> None:
    database.run(refusals.forget())


@shared_task(name="jobs.sum_hours")
def sum_hours() -> None:
    """A day of hours in each transaction: a portal with a long history gets there in steps."""
    while database.run(rollup.fill()):
        pass

"""What doors and pages call."""

from apps.dispatch.admission import submit, submit_async
from apps.dispatch.allowance import windows_async
from apps.dispatch.ending import cancel, cancel_async, expire_async, leave_async
from apps.dispatch.receipts import Ticket, ticket
from apps.dispatch.work import Submitted, Work

__all__ = [
    "Submitted",
    "Ticket",
    "Work",
    "cancel",
    "cancel_async",
    "expire_async",
    "leave_async",
    "submit",
    "submit_async",
    "ticket",
    "windows_async",
]

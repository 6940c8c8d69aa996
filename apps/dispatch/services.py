"""What doors and pages call."""

from apps.dispatch.admission import submit, submit_async
from apps.dispatch.ending import cancel, cancel_async, expire_async
from apps.dispatch.work import Submitted, Work

__all__ = ["Submitted", "Work", "cancel", "cancel_async", "expire_async", "submit", "submit_async"]

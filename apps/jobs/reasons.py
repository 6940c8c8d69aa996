"""Why a job is as it is. Stored in English by whoever knew, as the wire has it; on pages in the reader's language.

What is not here is shown as it was stored: a site's name, what an engine said, what staff wrote.
"""

from __future__ import annotations

from django.utils.translation import gettext_noop

from apps.accounts.languages import Sentences
from apps.jobs.invalid import INVALID

REASONS = Sentences(
    # Waiting and placing
    gettext_noop("Waiting for a free GPU"),
    gettext_noop("Waiting for a site that offers this model"),
    gettext_noop("Waiting for a site: none in the allowed places offers this model"),
    gettext_noop("Waiting for a site: %(why)s"),
    gettext_noop("%(site)s is the one site ready for this model in the allowed places"),
    gettext_noop("%(site)s is the one site ready for this model"),
    gettext_noop(
        "%(site)s has the lowest cost of power of %(pools)s ready pools in the allowed places with a free slot"
    ),
    gettext_noop("%(site)s has the lowest cost of power of %(pools)s ready pools with a free slot"),
    gettext_noop("Running at %(site)s"),
    # Why a pool takes no work
    gettext_noop("outside the allowed places"),
    gettext_noop("a partner's node: not for work that is bound to places"),
    gettext_noop("node is draining"),
    gettext_noop("node is in maintenance"),
    gettext_noop("node not admitted"),
    gettext_noop("node was never heard"),
    gettext_noop("node silent for %(seconds)s s"),
    gettext_noop("pool is draining"),
    gettext_noop("engine not ready"),
    gettext_noop("starting"),
    gettext_noop("the runner is stopping"),
    gettext_noop("the model is being loaded"),
    gettext_noop("the reader is being started again"),
    gettext_noop("the engine is being started again"),
    gettext_noop("the engine does not answer yet"),
    gettext_noop("the engine does not answer in time"),
    gettext_noop("the engine does not answer: %(why)s"),
    gettext_noop("the engine answers %(status)s to a list of its models"),
    # How attempts and jobs end
    gettext_noop("Finished"),
    gettext_noop("Attempt %(number)s ended: the site stopped answering."),
    gettext_noop("Attempt %(number)s ended: the site did not take the order."),
    gettext_noop("Attempt %(number)s ended: %(why)s"),
    gettext_noop("No site had a free slot before the deadline; nothing was charged"),
    gettext_noop("No site took it before the deadline; nothing was charged"),
    gettext_noop("What was asked cannot be read any more; nothing was charged"),
    gettext_noop("Stopped; what was finished is kept and charged"),
    gettext_noop("Cancelled before it started; nothing was charged"),
    gettext_noop("Cancelled before anything was done"),
    gettext_noop("%(why)s; what was finished is kept and charged"),
    gettext_noop("%(why)s; nothing was charged"),
    gettext_noop("%(why)s What had been delivered is charged."),
    gettext_noop("%(why)s Nothing was charged."),
    gettext_noop("%(why)s Rows that were missing failed."),
    gettext_noop("Cancelled by the operator: %(words)s"),
    gettext_noop("Cancelled by the operator"),
    gettext_noop("Cancelled"),
    gettext_noop("Stopping. %(why)s"),
    gettext_noop("Stopping"),
    gettext_noop("The attempt failed"),
    gettext_noop("The attempt failed."),
    # What failed: a job's `error_message`
    gettext_noop("No site had a free slot in time. Nothing was charged."),
    gettext_noop("No site took this in time. Nothing was charged."),
    gettext_noop(
        "What is stored of this request cannot be read any more. Nothing was charged. Send it again."
    ),
    gettext_noop("The site stopped answering while it worked on this."),
    gettext_noop("The sites that worked on this stopped answering."),
    gettext_noop("The site did not do all of it."),
    gettext_noop("The site lost contact with the portal."),
    gettext_noop("The site stopped before the job was done."),
    gettext_noop("The site could not run this job because of an error of ours."),
    gettext_noop("The site could not fetch the input of this job."),
    gettext_noop("The input of this job is not stored any more."),
    gettext_noop("The input of this job is too large."),
    gettext_noop("The answer is too large for a batch. Ask for less in one row."),
    gettext_noop("The job ran past its deadline and was stopped."),
    gettext_noop("The model is not loaded here. The request may be sent again."),
    gettext_noop("The model was not loaded in time. The request may be sent again."),
    gettext_noop("The model could not be loaded. The request may be sent again."),
    gettext_noop("The reader is not running. The request may be sent again."),
    gettext_noop("The reader stopped. The request may be sent again."),
    gettext_noop("The engine is not answering. The request may be sent again."),
    gettext_noop("The engine is busy. The request may be sent again."),
    gettext_noop("The engine broke off its answer. The request may be sent again."),
    gettext_noop("The engine's answer is malformed."),
    gettext_noop("The engine's answer is too long."),
    gettext_noop("The engine's answer is not a list of embeddings."),
    gettext_noop("The engine's answer is not a ranking."),
    gettext_noop("The engine did not count what it read."),
    gettext_noop("The engine did not rank every document."),
    gettext_noop("The engine cannot do this request."),
    gettext_noop("This model's embeddings have %(count)s dimensions."),
    # Why nothing was accepted: what a refusal says
    gettext_noop(
        "A payment was taken back by the bank and %(owed)s of it had been spent. Nothing new runs until it is paid: add credit on the Billing page."
    ),
    gettext_noop(
        "This request may cost up to %(most)s; this organization has %(available)s available. Send less, lower the maximum output, or add credit on the Billing page."
    ),
    gettext_noop(
        "This request may cost up to %(most)s; the %(period)s limit of %(whose)s leaves %(left)s. Send less, lower the maximum output, or raise the limit on the Limits page."
    ),
    gettext_noop(
        "This request may cost up to %(most)s; the %(period)s limit of %(whose)s leaves %(left)s. Raise the limit on the Limits page."
    ),
    gettext_noop("the organization “%(name)s”"),
    gettext_noop("the member “%(name)s”"),
    gettext_noop("the API key “%(name)s”"),
    gettext_noop("the organization"),
    gettext_noop("the member"),
    gettext_noop("the API key"),
    gettext_noop("%(amount)s until %(day)s, 00:00 UTC"),
    gettext_noop(
        "This organization has %(count)s jobs that have not ended, the most that its plan “%(plan)s” allows. Nothing was accepted or charged. Wait until some have ended, or take a larger plan on the Billing page."
    ),
    gettext_noop(
        "The file has %(pages)s pages and this model takes %(most)s at most. Split it."
    ),
    gettext_noop("The file of this job is no longer kept. Send it again to /api/v1/jobs."),
    gettext_noop("What this job was asked is no longer kept. Send the request again."),
    *INVALID,
    texts={"why", "whose", "period", "left", "kind", "advice", "counted", "tier", "choices", "expected"},
)  # fmt: skip


def said(stored: str) -> str:
    return REASONS.said(stored)

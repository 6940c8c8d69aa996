"""Where Stripe tells what happened: verify, store, answer. The work is a worker's."""

import json
import logging

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from stripe import SignatureVerificationError, WebhookSignature

from apps.billing import inbox, tasks

log = logging.getLogger(__name__)

MAX_BYTES = 256 * 1024
TOLERANCE_SECONDS = 300  # docs.stripe.com/webhooks/signature


@csrf_exempt
@require_POST
def stripe_webhook(request: HttpRequest) -> HttpResponse:
    """200 says that the event is stored. Anything else has Stripe send it again."""
    body = request.read(MAX_BYTES + 1)
    if len(body) > MAX_BYTES:
        return answer(413, "The body is larger than 256 kB.")
    if not signed(body, request.headers.get("Stripe-Signature", "")):
        return answer(400, "The signature is wrong or older than five minutes.")
    try:
        payload = json.loads(body)
        stored = inbox.store(payload if isinstance(payload, dict) else {})
    except ValueError:
        return answer(400, "The body is not JSON.")
    except inbox.NotAnEvent as refusal:
        log.warning("event refused", extra={"reason": refusal.message})
        return answer(400, refusal.message)
    if stored:
        tasks.send(payload["id"])
    return answer(200, "Stored." if stored else "Known.")


def signed(body: bytes, header: str) -> bool:
    """By one of our secrets, over the bytes as they came."""
    for secret in settings.STRIPE_WEBHOOK_SECRETS:
        try:
            return bool(WebhookSignature.verify_header(body, header, secret, TOLERANCE_SECONDS))
        except (SignatureVerificationError, UnicodeDecodeError, TypeError):  # TypeError: a signature that is not ASCII
            continue
    return False


def answer(status: int, text: str) -> HttpResponse:
    return HttpResponse(text + "\n", status=status, content_type="text/plain; charset=utf-8")

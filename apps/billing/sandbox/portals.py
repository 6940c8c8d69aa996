"""Customer portal sessions: what "Card and invoices" opens."""

from django.conf import settings
from django.urls import reverse

from apps.billing.sandbox import rows
from apps.billing.sandbox.refusals import Refusal
from apps.billing.sandbox.rows import Data


def create(params: Data) -> Data:
    if "customer" not in params:
        raise Refusal("Missing required param: customer.", param="customer", code="parameter_missing")
    customer = rows.get("customer", params["customer"], param="customer")
    session = rows.add(
        "billing_portal.session",
        {
            "configuration": "bpc_sandbox",
            "customer": customer["id"],
            "flow": None,
            "locale": params.get("locale"),
            "on_behalf_of": None,
            "return_url": params.get("return_url"),
            "url": None,
        },
    )
    session["url"] = settings.BASE_URL + reverse("sandbox:portal", args=[session["id"]])
    rows.put(session)
    return session

"""One row of every kind that billing and its reconciliation keep, for the admin's pages."""

from datetime import UTC, datetime, timedelta

from apps.accounts.models import Organization, User
from apps.billing.models import (
    Alert,
    AlertSettings,
    AutomaticTopUp,
    Company,
    Customer,
    Dispute,
    Event,
    Invoice,
    Plan,
    Refund,
    SandboxObject,
    Subscription,
    TopUp,
)
from apps.operations.models import Incident, Reconciliation


def rows(organization: Organization, owner: User, number: int) -> None:
    now = datetime.now(UTC)
    Company.objects.create(organization=organization, country="DE", tax_id_type="eu_vat", tax_id=f"DE{number:09}")
    Customer.objects.create(organization=organization, stripe_id=f"cus_{number}", email=owner.email)
    invoice = Invoice.objects.create(
        organization=organization, stripe_id=f"in_{number}", state="paid", total_cents=2500, issued_at=now
    )
    top_up = TopUp.objects.create(
        organization=organization,
        source="checkout",
        state="paid",
        amount_cents=2500,
        payment_intent_id=f"pi_{number}",
        invoice=invoice,
        created_by=owner,
        ended_at=now,
    )
    Refund.objects.create(organization=organization, top_up=top_up, amount_cents=500, actor=owner)
    Dispute.objects.create(stripe_id=f"du_{number}", organization=organization, top_up=top_up, amount_cents=2500)
    AutomaticTopUp.objects.create(
        organization=organization, threshold_microusd=1_000_000, amount_cents=2000, monthly_ceiling_cents=5000
    )
    plan = Plan.objects.create(code=f"plan-{number}", title=f"Plan {number}", price_cents=4900, max_open_jobs=10)
    Subscription.objects.create(
        organization=organization,
        plan=plan,
        stripe_id=f"sub_{number}",
        state="active",
        period_start_at=now,
        period_end_at=now + timedelta(days=30),
    )
    Event.objects.create(
        stripe_id=f"evt_{number}",
        type="payment_intent.succeeded",
        payload={"data": {"object": {"id": f"pi_{number}"}}},
        happened_at=now,
    )
    Alert.objects.create(organization=organization, kind="balance", window=now.date())
    AlertSettings.objects.create(organization=organization)
    SandboxObject.objects.create(id=f"thing_{number}", kind="thing", data={"id": f"thing_{number}"})
    Reconciliation.objects.create(started_at=now, ended_at=now, differences=0, pending=0, report={})
    Incident.objects.create(title=f"Slow {number}", effect="Answers take longer", severity="degraded", began_at=now)

from apps.billing import customers
from apps.billing.booking import Write
from apps.billing.models import Customer, Event


def customer_changed(event: Event) -> Write | None:
    """Name, address and tax ids are kept by Stripe's pages; ours show the copy."""
    if not Customer.objects.filter(stripe_id=event.object_id).exists():
        return None
    read = customers.read(event.object_id)
    return lambda: customers.refresh(read)

"""Plans on pages: chosen, changed, cancelled and kept, each after a page that says what that means."""

import pytest

from apps.billing.models import Subscription
from tests.billing.stories import colleague, shop
from tests.billing.test_pages import browser, plan
from tests.portal.test_pages import assert_clean

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def subscribed(stripe):
    organization, owner = shop()
    plan(code="team", title="Team", price_cents=4900)
    plan()
    client = browser(owner)
    page = client.get("/billing/plan/team/")
    assert_clean(page)
    assert b"Subscribe to Team?" in page.content
    url = client.post("/billing/plan/team/")["location"]
    session = next(each for each in stripe.every("checkout.session") if each["url"].endswith(url))
    assert session["success_url"] == "http://testserver/billing/plan/?paid=1"
    assert not Subscription.objects.exists()
    assert b"Waiting for the payment." in client.get("/billing/plan/?paid=1").content
    stripe.pay(session["id"])
    stripe.deliver()
    assert Subscription.objects.get().plan.code == "team"
    return organization, owner, client


def test_a_plan_is_changed_cancelled_and_kept(stripe, subscribed):
    _, _, client = subscribed
    page = client.get("/billing/plan/")
    assert_clean(page)
    assert b"Yours" in page.content
    up = client.get("/billing/plan/pro/")
    assert_clean(up)
    assert b"It begins at once." in up.content
    assert client.post("/billing/plan/pro/")["location"] == "/billing/plan/"
    assert Subscription.objects.get().plan.code == "pro"
    assert b"It begins on" in client.get("/billing/plan/team/").content

    asked = client.get("/billing/plan/cancel/")
    assert_clean(asked)
    assert b"Cancel the Pro plan?" in asked.content
    assert client.post("/billing/plan/cancel/")["location"] == "/billing/plan/"
    assert Subscription.objects.get().cancel_at_period_end
    html = client.get("/billing/plan/").content
    assert b"Your plan ends on" in html
    assert b"Keep the plan" in html
    assert client.get("/billing/plan/cancel/")["location"] == "/billing/plan/"
    assert client.post("/billing/plan/resume/")["location"] == "/billing/plan/"
    assert not Subscription.objects.get().cancel_at_period_end


def test_a_payment_service_that_is_away_changes_nothing(stripe, subscribed):
    client = subscribed[2]
    stripe.fail_next("POST", "/v1/subscriptions", 500, times=20)
    for url in ("/billing/plan/pro/", "/billing/plan/cancel/"):
        answer = client.post(url)
        assert answer.status_code == 503
        assert b"The payment service did not answer." in answer.content
    row = Subscription.objects.get()
    assert (row.plan.code, row.cancel_at_period_end) == ("team", False)


def test_plans_that_are_not_on_offer_do_not_exist(stripe):
    _, owner = shop()
    plan(listed=False)
    client = browser(owner)
    assert client.get("/billing/plan/pro/").status_code == 404
    assert client.post("/billing/plan/pro/").status_code == 404
    assert b"No plans on offer" in client.get("/billing/plan/").content
    assert client.get("/billing/plan/cancel/")["location"] == "/billing/plan/"
    assert client.post("/billing/plan/resume/")["location"] == "/billing/plan/"
    assert not stripe.requests


def test_a_developer_chooses_no_plan(stripe, subscribed):
    organization = subscribed[0]
    before = len(stripe.requests)
    client = browser(colleague(organization, "developer"))
    for url in ("/billing/plan/pro/", "/billing/plan/cancel/", "/billing/plan/resume/"):
        assert client.post(url).status_code == 403
    assert len(stripe.requests) == before

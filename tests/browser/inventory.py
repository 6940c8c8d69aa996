"""Every page of the design guide's inventory that there is, and where a browser finds it.

Addresses name what a portal has by `{job}`, `{batch}`, `{key}`, `{webhook}`, `{stop}`, `{invitation}`, `{passkey}`; `World` makes those once.
A page that is new is one line here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.core import signing
from playwright.sync_api import Browser, BrowserContext, Page

from apps.core.ids import public
from tests.browser.people import PASSWORD, Device, person
from tests.browser.test_live import MODEL
from tests.started import Portal


@dataclass(frozen=True)
class Place:
    """`status` other than 200 is told to the console as an error.

    `who` is a visitor, a member of the demo's organization, the holder of a passkey, or that one before the second factor.
    `lacks`: tables that are not there while it is looked at, so that the parts which read them show their failed face.
    """

    name: str
    path: str
    who: str = "member"
    status: int = 200
    lacks: tuple[str, ...] = ()


VISITOR = [
    Place("front", "/", "visitor"),
    Place("models-visitor", "/models/", "visitor"),
    Place("model-visitor", "/models/cango/demo-chat/", "visitor"),
    Place("pricing-visitor", "/pricing/", "visitor"),
    Place("docs-visitor", "/docs/", "visitor"),
    Place("docs-quick-start-visitor", "/docs/quick-start/", "visitor"),
    Place("docs-errors", "/docs/errors/", "visitor"),
    Place("docs-search", "/docs/?q=rate+limit", "visitor"),
    Place("docs-reference", "/docs/reference/inference/", "visitor"),
    Place("status", "/status/", "visitor"),
    Place("terms", "/terms/", "visitor"),
    Place("privacy", "/privacy/", "visitor"),
    Place("data", "/data/", "visitor"),
    Place("signup", "/signup/", "visitor"),
    Place("verify", "/verify/", "visitor"),
    Place("login", "/login/", "visitor"),
    Place("password-reset", "/password/reset/", "visitor"),
    Place("password-reset-done", "/password/reset/done/", "visitor"),
    Place("mails-stop", "/mails/stop/{stop}/", "visitor"),
    Place("invitation-visitor", "/invite/{invitation}/", "visitor"),
    Place("mailbox", "/mail/", "visitor"),
    Place("not-found", "/nothing/", "visitor", 404),
]
MEMBER = [
    Place("account", "/settings/account/"),
    Place("security", "/settings/security/"),
    Place("confirm-by-password", "/login/again/"),
    Place("notifications", "/settings/notifications/"),
    Place("password-change", "/password/change/"),
    Place("dashboard", "/dashboard/"),
    Place("dashboard-days", "/dashboard/?range=30d"),
    Place("dashboard-failed", "/dashboard/", lacks=("jobs_refusal", "jobs_usageuntil", "ledger_account")),
    Place("models", "/models/"),
    Place("model", "/models/cango/demo-chat/"),
    Place("pricing", "/pricing/"),
    Place("docs", "/docs/"),
    Place("docs-quick-start", "/docs/quick-start/"),
    Place("docs-jobs", "/docs/jobs/"),
    Place("status-member", "/status/"),
    Place("playground", "/playground/"),
    Place("jobs", "/jobs/"),
    Place("jobs-text", "/jobs/?q=one"),
    Place("job", "/jobs/{job}/"),
    Place("batches", "/batches/"),
    Place("batch-new", "/batches/new/"),
    Place("batch", "/batches/{batch}/"),
    Place("batch-row", "/batches/{batch}/rows/1/"),
    Place("batch-again", "/batches/{batch}/again/?rows=all"),
    Place("usage", "/usage/"),
    Place("keys", "/keys/"),
    Place("key-new", "/keys/new/"),
    Place("key", "/keys/{key}/"),
    Place("key-change", "/keys/{key}/change/"),
    Place("key-replace", "/keys/{key}/replace/"),
    Place("key-revoke", "/keys/{key}/revoke/"),
    Place("places", "/keys/places/"),
    Place("billing", "/billing/"),
    Place("billing-failed", "/billing/", lacks=("billing_invoice", "ledger_chargeduntil")),
    Place("billing-add", "/billing/add/"),
    Place("billing-movements", "/billing/movements/"),
    Place("billing-payments", "/billing/payments/"),
    Place("billing-invoices", "/billing/invoices/"),
    Place("billing-automatic", "/billing/automatic/"),
    Place("billing-plan", "/billing/plan/"),
    Place("billing-portal", "/billing/portal/"),
    Place("limits", "/billing/limits/"),
    Place("limits-organization", "/billing/limits/organization/"),
    Place("limits-member", "/billing/limits/members/{user}/"),
    Place("warnings", "/billing/limits/warnings/"),
    Place("members", "/settings/members/"),
    Place("member", "/settings/members/{membership}/"),
    Place("member-remove", "/settings/members/{membership}/remove/"),
    Place("audit", "/settings/audit/"),
    Place("organization", "/settings/organization/"),
    Place("exports", "/settings/organization/export/"),
    Place("delete", "/settings/organization/delete/"),
    Place("invite", "/settings/members/invite/"),
    Place("invitation-member", "/invite/{invitation}/"),
    Place("webhooks", "/settings/webhooks/"),
    Place("webhook-new", "/settings/webhooks/new/"),
    Place("webhook", "/settings/webhooks/{webhook}/"),
    Place("webhook-edit", "/settings/webhooks/{webhook}/edit/"),
    Place("webhook-rotate", "/settings/webhooks/{webhook}/rotate/"),
    Place("webhook-delete", "/settings/webhooks/{webhook}/delete/"),
]
HOLDER = [
    Place("security-factors", "/settings/security/", "holder"),
    Place("passkey-add", "/settings/security/passkeys/add/", "holder"),
    Place("passkey-rename", "/settings/security/passkeys/{passkey}/", "holder"),
    Place("passkey-remove", "/settings/security/passkeys/{passkey}/remove/", "holder"),
    Place("recovery-codes", "/settings/security/recovery-codes/", "holder"),
    Place("authenticator-app", "/settings/security/totp/activate/", "holder"),
    Place("confirm-by-passkey", "/settings/security/again/passkey/", "holder"),
    Place("confirm-by-code", "/settings/security/again/", "holder"),
    Place("second-factor", "/login/code/", "halfway"),
]
PLACES = [*VISITOR, *MEMBER, *HOLDER]


class World:
    """A browser with a visitor's and a member's pages open, and the things that addresses name."""

    def __init__(self, portal: Portal, browser: Browser) -> None:
        self.portal = portal
        self.contexts: dict[str, BrowserContext] = {
            who: browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
            for who in ("visitor", "member", "holder", "halfway")
        }
        self.pages: dict[str, Page] = {who: context.new_page() for who, context in self.contexts.items()}
        for context in self.contexts.values():
            context.set_default_timeout(60_000)  # on a machine that is busy with other things
        self.enter("member", portal.demo["email"], portal.demo["password"])
        self.pages["member"].wait_for_url("**/dashboard/")
        self.named = {
            **self.work(),
            "key": self.key(),
            "webhook": self.webhook(),
            "stop": self.stop(),
            "passkey": self.passkey(),
            "user": str(self.user()),
            "membership": str(self.membership()),
            "invitation": self.invitation(),
        }

    def path(self, place: Place) -> str:
        return place.path.format(**self.named)

    @contextmanager
    def lacking(self, place: Place) -> Iterator[None]:
        """All of them at once: whatever else runs misses them for as long as a page takes."""
        try:
            for table in place.lacks:
                self.portal.sql(f"ALTER TABLE {table} RENAME TO {table}_gone")
            yield
        finally:
            for table in place.lacks:
                self.portal.sql(f"ALTER TABLE IF EXISTS {table}_gone RENAME TO {table}")

    def enter(self, who: str, email: str, password: str) -> None:
        page = self.pages[who]
        page.goto(f"{self.portal.base_url}/login/")
        page.get_by_label("E-mail").fill(email)
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Sign in", exact=True).click()

    def passkey(self) -> str:
        """Of the holder, who is signed in, and once more halfway: with the password and not yet with the passkey."""
        page, email = self.pages["holder"], person(self.portal)
        Device(page)
        self.enter("holder", email, PASSWORD)
        page.wait_for_url("**/dashboard/")
        page.goto(f"{self.portal.base_url}/settings/security/passkeys/add/")
        self.confirm(page)
        page.get_by_role("button", name="Add passkey").click()
        page.wait_for_url("**/recovery-codes/")
        self.enter("halfway", email, PASSWORD)
        self.pages["halfway"].wait_for_url("**/login/code/**")
        [row] = self.portal.sql(
            "SELECT a.id FROM mfa_authenticator a JOIN accounts_user u ON u.id = a.user_id WHERE u.email = %s AND a.type = 'webauthn'",
            email,
        )
        return str(row["id"])

    def confirm(self, page: Page) -> None:
        """What guards an account asks who it is when that was some minutes ago."""
        if "/again/" in page.url:
            page.goto(re.sub("/settings/security/again/(passkey/)?", "/login/again/", page.url))
            page.locator("main input[name=password]").fill(PASSWORD)  # by no label: the page may be in Chinese
            page.locator("main input[name=password]").press("Enter")
            page.wait_for_url(lambda url: "/again/" not in url)

    def work(self) -> dict[str, str]:
        """A job that has ended, and a batch."""
        body = {"model": MODEL, "messages": [{"role": "user", "content": "Say the words."}], "max_tokens": 40}
        with self.portal.client() as client:
            job = client.post("/v1/chat/completions", json=body).raise_for_status().headers["x-job-id"]
            row = {"custom_id": "row-1", "method": "POST", "url": "/v1/chat/completions", "body": body}
            form = {"file": ("descriptions.jsonl", json.dumps(row).encode())}
            file = client.post("/v1/files", data={"purpose": "batch"}, files=form).json()["id"]
            asked = {"input_file_id": file, "endpoint": row["url"], "completion_window": "24h"}
            batch = client.post("/v1/batches", json=asked).json()["id"]
            done = ("completed", "failed", "expired", "cancelled")
            self.portal.wait_until(lambda: client.get(f"/v1/batches/{batch}").json()["status"] in done, seconds=60)
        return {"job": job, "batch": batch}

    def signer(self, salt: str) -> signing.Signer:
        """As the portal signs what its mails lead to."""
        return signing.Signer(key=(self.portal.var / "secret_key").read_text().strip(), salt=salt)

    def user(self) -> int:
        [row] = self.portal.sql("SELECT id FROM accounts_user WHERE email = %s", self.portal.demo["email"])
        return int(row["id"])

    def stop(self) -> str:
        return self.signer("accounts.letters.stop").sign_object([self.user(), "keys"])

    def membership(self) -> int:
        return int(self.portal.sql("SELECT id FROM accounts_membership ORDER BY id LIMIT 1")[0]["id"])

    def invitation(self) -> str:
        page = self.pages["member"]
        page.goto(f"{self.portal.base_url}/settings/members/invite/")
        page.get_by_label("E-mail").fill("sam@meridian.example")
        page.get_by_role("button", name="Send invitation").click()
        page.wait_for_url("**/settings/members/")
        [row] = self.portal.sql("SELECT id FROM accounts_invitation LIMIT 1")
        return self.signer("accounts.invitation").sign(public("inv", row["id"]))

    def key(self) -> str:
        return str(self.portal.sql("SELECT id FROM keys_apikey ORDER BY created_at, id LIMIT 1")[0]["id"])

    def webhook(self) -> str:
        page = self.pages["member"]
        page.goto(f"{self.portal.base_url}/settings/webhooks/new/")
        page.get_by_label("URL").fill("https://hooks.example.com/cango")
        page.locator("input[name=event_types]").first.check(force=True)
        page.get_by_role("button", name="Add webhook").click()
        page.goto(f"{self.portal.base_url}/settings/webhooks/")
        href = page.locator("tbody th a").first.get_attribute("href")
        assert href is not None
        return href.rstrip("/").rpartition("/")[2]

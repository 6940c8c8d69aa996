"""People of their own, beside the demo's, and the devices they carry."""

from __future__ import annotations

import secrets

from playwright.sync_api import Page

from cango_portal.launcher.browser import Browser
from cango_portal.launcher.demo import LINK

PASSWORD = "correct horse battery staple"


class Device:
    """A phone's authenticator: it keeps passkeys and knows its user by a finger."""

    def __init__(self, page: Page) -> None:
        self.session = page.context.new_cdp_session(page)
        self.session.send("WebAuthn.enable")
        options = {
            "protocol": "ctap2",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": True,
            "automaticPresenceSimulation": True,
        }
        self.id = self.session.send("WebAuthn.addVirtualAuthenticator", {"options": options})["authenticatorId"]

    def knows_the_finger(self, known: bool) -> None:
        self.session.send("WebAuthn.setUserVerified", {"authenticatorId": self.id, "isUserVerified": known})

    @property
    def passkeys(self) -> list[dict]:
        return self.session.send("WebAuthn.getCredentials", {"authenticatorId": self.id})["credentials"]


def person(portal) -> str:
    """Somebody new with an organization: what is told of the demo's stays as it is."""
    email = f"lena{secrets.token_hex(4)}@meridian.example"
    with Browser(portal.base_url) as browser:
        browser.submit(browser.open("/signup/"), email=email, password1=PASSWORD)
        link = LINK.search(browser.open("/mail/").text.partition(email)[2])
        assert link is not None
        browser.submit(browser.open(link[0]))
        browser.submit(browser.open("/welcome/"), name="Meridian Foods", country="US")
    return email

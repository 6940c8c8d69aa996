"""docs/api.md names every code a caller can meet."""

import re

from django.conf import settings

FOR_RUNNERS = {  # of /agent/v1
    "invalid_node_token",
    "invalid_signature",
    "invalid_node_key",
    "invalid_enrolment_token",
    "enrolment_elsewhere",
    "enrolment_expired",
    "enrolment_refused",
    "enrolment_used",
    "invalid_proof",
    "proof_used",
    "node_retired",
    "wrong_clock",
}
FOR_STAFF = {"burn_in", "node_moved", "node_state"}  # on pages of the admin
FOR_PAGES = {"invitation_state", "too_many_invitations", "other_address", "organization_state", "export_state"}
NEVER_SENT = {"refused", "job_failed"}  # bases: what is raised names its own


def test_every_code_is_in_the_documentation():
    codes = set()
    for path in (settings.ROOT / "apps").rglob("*.py"):
        if "billing" in path.parts:  # payments are made on pages; the double answers in Stripe's codes
            continue
        text = path.read_text()
        codes |= set(re.findall(r'\bcode="([a-z_]+)"', text))
        codes |= set(re.findall(r'^    code(?:, \w+)*(?:: [^=]+)? = "([a-z_]+)"', text, re.MULTILINE))
    assert {"invalid_request", "unsupported_media_type", "site_lost", "insufficient_credit"} <= codes
    documented = set(re.findall("`([a-z_]+)`", (settings.ROOT / "docs" / "api.md").read_text()))
    assert codes - FOR_RUNNERS - FOR_STAFF - FOR_PAGES - NEVER_SENT <= documented

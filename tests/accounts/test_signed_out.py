"""Whoever is signed out and asks for a part of a page goes to the sign-in, and from there back to the page."""

from __future__ import annotations

import pytest
from django.test import Client

from tests import make

PAGE = "http://testserver/usage/?range=7d"
HTMX = {"HX-Request": "true", "HX-Current-URL": PAGE}


@pytest.mark.parametrize("path", ["/usage/?range=30d", "/jobs/?state=failed", "/billing/"])
def test_a_part_that_is_asked_for_without_a_session_is_a_way_to_sign_in(path, db):
    answer = Client().get(path, headers=HTMX)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer["HX-Redirect"] == "/login/?next=/usage/%3Frange%3D7d"
    assert "Location" not in answer
    assert "no-store" in answer["Cache-Control"]


def test_a_page_of_another_host_is_not_where_the_sign_in_leads(db):
    answer = Client().get("/billing/", headers={**HTMX, "HX-Current-URL": "https://example.com/usage/"})
    assert answer["HX-Redirect"] == "/login/?next=/billing/"


def test_whole_pages_and_other_ways_are_as_they_were(db):
    answer = Client().get("/billing/")
    assert (answer.status_code, answer["Location"]) == (302, "/login/?next=/billing/")
    homeless = Client()
    homeless.force_login(make.user())
    answer = homeless.get("/billing/", headers=HTMX)
    assert (answer.status_code, answer["Location"]) == (302, "/welcome/")

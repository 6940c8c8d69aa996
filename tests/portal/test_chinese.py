"""Pages in the second language: nothing is left in English but what people named."""

import re

import pytest
from django.test import Client

from apps.accounts.models import User
from tests import make
from tests.house.wording import _Texts

ENGLISH = re.compile(r"[A-Za-z]{2,} [A-Za-z]{2,}")
CHINESE = re.compile(r"[\u4e00-\u9fff]")
NAMED = {"Cango Portal", "Meridian Foods", "简体中文"}
VISITOR = (
    "/",
    "/models/",
    "/pricing/",
    "/status/",
    "/terms/",
    "/data/",
    "/login/",
    "/signup/",
    "/password/reset/",
    "/no/",
)
MEMBER = (
    "/dashboard/",
    "/playground/",
    "/jobs/",
    "/usage/",
    "/settings/security/",
    "/settings/notifications/",
    "/settings/members/",
    "/settings/members/invite/",
    "/settings/organization/",
    "/settings/organization/delete/",
    "/settings/audit/",
)


def left(client: Client, path: str) -> set[str]:
    page = client.get(path).content.decode()
    assert '<html lang="zh-hans"' in page, path
    texts = _Texts()
    texts.feed(page)
    return {text for _, text in texts.found if ENGLISH.search(text) and not CHINESE.search(text)} - NAMED


def test_a_visitor_reads_no_english(db):
    client = Client(headers={"accept-language": "zh-CN"})
    assert {path: found for path in VISITOR if (found := left(client, path))} == {}


@pytest.mark.django_db
def test_a_member_reads_no_english():
    user = make.user(language="zh-hans")
    make.organization(owner=user, credit_microusd=5_000_000)
    client = Client()
    client.force_login(User.objects.get())
    assert {path: found for path in MEMBER if (found := left(client, path))} == {}


@pytest.mark.django_db
def test_a_rule_without_a_place_is_told_in_chinese():
    user = make.user(language="zh-hans")
    organization = make.organization(owner=user)
    organization.residency = []
    organization.save(update_fields=["residency"])
    client = Client()
    client.force_login(user)
    pages = [client.get(path).content.decode() for path in ("/keys/", "/settings/organization/")]
    assert [page.count("零个地点") for page in pages] == [1, 1]
    assert [page.count("no place") for page in pages] == [0, 0]

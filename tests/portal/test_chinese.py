"""Pages in the second language: nothing is left in English but what people named."""

import html
import re
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from apps.accounts.models import User
from apps.batches.models import Batch
from apps.core.ids import uuid7
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


PARAGRAPH = re.compile(r"<(p|dd|li|td|h\d)\b[^>]*>(.*?)</\1>", re.DOTALL)
# A full stop or comma of English after Chinese, and space beside a comma within a sentence.
MIXED = re.compile(r"[\u4e00-\u9fff] ?[.,;](?=\s|$)|\s[，。；：、]|[，；：、“（]\s")


@pytest.mark.django_db
def test_chinese_has_its_own_punctuation_and_no_space_beside_it():
    user = make.user(language="zh-hans")
    organization = make.organization(owner=user, credit_microusd=5_000_000)
    model = make.model(kind="chat", max_output_tokens=100)
    job = make.job(organization=organization, model=model, state="succeeded", energy_wh=0.5, prompt_tokens=10)
    now = datetime.now(UTC)
    batch = Batch.objects.create(
        organization=organization, user=user, model=model, price=model.prices.first(), endpoint="/v1/chat/completions",
        total=3, input_file_id=uuid7(), created_at=now, expires_at=now + timedelta(days=1),
    )  # fmt: skip
    client = Client()
    client.force_login(user)
    visitor = Client(headers={"accept-language": "zh-CN"})
    paths = [(visitor, path) for path in VISITOR] + [
        (client, path) for path in (*MEMBER, "/billing/plan/", "/privacy/", f"/jobs/{job.public_id}/", f"/batches/{batch.public_id}/")
    ]  # fmt: skip
    found = {}
    for reader, path in paths:
        page = reader.get(path).content.decode()
        texts = [" ".join(html.unescape(re.sub(r"<[^>]*>", "", text)).split()) for _, text in PARAGRAPH.findall(page)]
        if wrong := [text for text in texts if MIXED.search(text)]:
            found[path] = wrong
    assert found == {}


@pytest.mark.django_db
def test_a_language_is_offered_in_itself():
    page = Client(headers={"accept-language": "zh-CN"}).get("/login/").content.decode()
    assert re.findall(r'name="language" value="([\w-]+)"[^>]*>([^<]+)<', page) == [
        ("en", "English"),
        ("zh-hans", "简体中文"),
    ]

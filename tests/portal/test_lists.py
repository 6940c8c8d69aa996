"""Lists of keys, members and their limits: cut into pages, none left out, none twice."""

import re

import pytest

from apps.keys.models import APIKey
from tests.portal.test_queries import Shop

pytestmark = [pytest.mark.django_db, pytest.mark.story]


def test_long_lists_are_cut_into_pages() -> None:
    shop = Shop()
    shop.add(43)
    revoked, *_ = APIKey.objects.order_by("pk")
    APIKey.objects.filter(pk=revoked.pk).update(revoked_at=revoked.created_at)

    def rows(page: str, link: str) -> list[str]:
        return re.findall(link, shop.get(page).content.decode())

    for page, link, count in (
        ("/keys/?page={}", r'class="row" href="/keys/([^/"]+)/"', 46),
        ("/settings/members/?page={}", r'href="/settings/members/(\d+)/"', 46),
        ("/billing/limits/?members={}", r'href="/billing/limits/members/(\d+)/"', 46),
    ):
        first, second = rows(page.format(1), link), rows(page.format(2), link)
        assert (len(first), len(second), len({*first, *second})) == (40, count - 40, count), page
        for number, words, others in ((1, f"1 to 40 of {count}", {"2"}), (2, f"41 to {count} of {count}", {"1"})):
            text = shop.get(page.format(number)).content.decode()
            name = re.escape(page.partition("/?")[2].partition("=")[0])
            assert (words in text, set(re.findall(rf'href="\?{name}=(\d+)', text))) == (True, others), (page, number)
        assert rows(page.format("x"), link) == first
        assert rows(page.format(99), link) == second
    assert str(revoked.pk) == rows("/keys/?page=2", r'class="row" href="/keys/([^/"]+)/"')[-1]
    assert "46 in " in shop.get("/settings/members/?page=2").content.decode()

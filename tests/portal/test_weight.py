"""How large a member's page gets where there is much of everything and names are as long as they may be.

Pages of a session are not compressed, and what most of them load besides is 170 kB with the fonts that names and ids need; a first load may
weigh 250. tests/browser/test_weight.py weighs in a browser, the usage page with its chart too.
"""

import pytest

from apps.accounts.models import User
from apps.catalog.models import Model
from apps.files.models import File
from apps.jobs.models import Refusal
from apps.keys.models import APIKey
from tests.portal.test_queries import NOW, PAGES, Shop

pytestmark = [pytest.mark.django_db, pytest.mark.story]
MOST = 80_000
MANY = 60
MODELS = 20  # on offer
WIDE = "Łódź" * 60  # a letter of two bytes each, but one


def heavy() -> Shop:
    """More of everything than a page has rows."""
    shop = Shop()
    shop.organization.name = WIDE[:120]
    shop.organization.save(update_fields=["name"])
    shop.add(MANY)
    for number, key in enumerate(APIKey.objects.all()):
        APIKey.objects.filter(pk=key.pk).update(name=f"{number} {WIDE}"[:80], last_used_at=NOW)
    for number, model in enumerate(Model.objects.order_by("pk")):
        Model.objects.filter(pk=model.pk).update(title=f"{number} {WIDE}"[:120], listed=number < MODELS)
    for number, user in enumerate(User.objects.exclude(pk=shop.owner.pk)):
        email = f"{number}{'m' * 60}@{'e' * 60}.{'e' * 60}.example"
        User.objects.filter(pk=user.pk).update(name=f"{number} {WIDE}"[:120], email=email)
    File.objects.update(name=WIDE[:200])
    Refusal.objects.update(message="m" * 300)
    return shop


# It has a line for each region of each model, fifty incidents and fifty bad days, and leaves compressed for who is not signed in.
GROW = {"/status/"}


def test_no_page_is_too_heavy_where_there_is_much() -> None:
    shop = heavy()
    sizes = {page: len(shop.get(page).content) for page in PAGES}
    print(*(f"{size:>8,} {page}" for page, size in sorted(sizes.items(), key=lambda each: -each[1])), sep="\n")
    assert {page: size for page, size in sizes.items() if size > MOST and page not in GROW} == {}

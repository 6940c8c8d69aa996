"""Prices and carbon from files and addresses: what holds now, what is refused, what is old and says so."""

import json
import re
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from django.core.exceptions import ValidationError

from apps.runner.protocol import Energy
from apps.sites import feeds
from apps.sites.models import Feed, FeedValue
from tests import make
from tests.dispatch import site as site_of

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def directory(settings, tmp_path):
    settings.FEEDS_DIR = tmp_path / "feeds"
    settings.FEEDS_DIR.mkdir()
    (tmp_path / "secret").write_text("at,value\n2026-01-01T00:00:00Z,1\n")
    return settings.FEEDS_DIR


def feed(kind="price", unit="usd_per_mwh", **fields):
    given = {"code": f"{kind}-1", "kind": kind, "adapter": "file", "address": "values", "unit": unit, **fields}
    return Feed.objects.create(**given)


def at(hours):
    return (NOW + timedelta(hours=hours)).isoformat()


def told(*pairs):
    return json.dumps([{"at": at(hours), "value": value} for hours, value in pairs])


@pytest.mark.django_db
def test_what_has_begun_holds_and_what_is_ahead_waits(directory):
    site = make.site(price_feed="price-1", power_usd_per_mwh=45)
    other = make.site(power_usd_per_mwh=45)
    source = feed()
    (directory / "values").write_text(f"at,value\n{at(-2)},41.5\n{at(-1)},-3.25\n{at(1)},90\n")
    feeds.read_all()
    feeds.read_all()
    source.refresh_from_db()
    assert (source.value, source.newest_at, source.error, source.is_stale(NOW)) == (
        -3.25,
        NOW - timedelta(hours=1),
        "",
        False,
    )
    assert FeedValue.objects.count() == 3
    site.refresh_from_db(), other.refresh_from_db()
    assert (site.power_usd_per_mwh, other.power_usd_per_mwh) == (-3.25, 45)
    (directory / "values").write_text(told((-1, -2.0)))  # corrected
    feeds.read_all()
    site.refresh_from_db()
    assert (site.power_usd_per_mwh, FeedValue.objects.count()) == (-2.0, 3)


@pytest.mark.django_db
def test_units_are_the_portals_and_location_and_market_stay_apart(directory):
    site = make.site(carbon_feed="carbon-1", market_feed="market-1", grid_gco2e_per_kwh=380)
    feed("carbon", "lb_per_mwh", address="moer")
    feed("market", "gco2e_per_kwh", address="contract")
    (directory / "moer").write_text(told((-1, 820)))
    (directory / "contract").write_text(told((-1, 12)))
    feeds.read_all()
    site.refresh_from_db()
    assert site.grid_gco2e_per_kwh == pytest.approx(371.945743, rel=1e-8)
    assert site.market_gco2e_per_kwh == 12


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "it has no values"), ("[]", "it has no values"), ("{", "neither JSON nor CSV"), ("when,what\n1,2", "value 1"),
        ('[{"at": "2026-11-29T12:00:00", "value": 1}]', "no zone"), ('[{"at": "2026-11-29T12:00:00Z", "value": NaN}]', "no finite"),
        ('[{"at": "2026-11-29T12:00:00Z", "value": -1}]', "only a price"),
    ],
)  # fmt: skip
@pytest.mark.django_db
def test_what_is_no_feed_writes_nothing_and_the_last_value_stays(directory, content, why):
    site = make.site(carbon_feed="carbon-1", grid_gco2e_per_kwh=380)
    source = feed("carbon", "gco2e_per_kwh")
    (directory / "values").write_text(told((-1, 250)))
    feeds.read_all()
    (directory / "values").write_text(content)
    feeds.read_all()
    source.refresh_from_db(), site.refresh_from_db()
    assert why in source.error
    assert (source.value, site.grid_gco2e_per_kwh, FeedValue.objects.count()) == (250, 250, 1)


@pytest.mark.django_db
def test_a_file_elsewhere_is_not_read(directory):
    for address in ("../secret", str(directory.parent / "secret")):
        source = feed(address=address, code=f"p{len(address)}")
        feeds.read(source)
        source.refresh_from_db()
        assert (source.error, source.value) == ("the file is not below FEEDS_DIR", None)


@pytest.mark.django_db
def test_an_address_is_asked_and_its_trouble_is_told(directory):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status = 200 if self.path == "/prices" else 302
            body = json.dumps({"data": json.loads(told((-1, 33.5)))}).encode()
            self.send_response(status)
            self.send_header("location", "/prices")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        good, moved = (
            feed(adapter="http", address=f"{url}/prices"),
            feed(adapter="http", address=f"{url}/x", code="moved"),
        )
        feeds.read_all()
        server.shutdown()
    away = feed(adapter="http", address=url, code="away")
    feeds.read(away)
    for each in (good, moved, away):
        each.refresh_from_db()
    assert (good.value, good.error) == (33.5, "")
    assert (moved.value, moved.error) == (None, "the address answered 302")
    assert away.error == "the address does not answer: ConnectError"


@pytest.mark.django_db
def test_a_site_names_only_feeds_of_the_kind():
    feed()
    make.site(price_feed="price-1").clean()
    for fields in ({"price_feed": "other"}, {"carbon_feed": "price-1"}):
        with pytest.raises(ValidationError):
            make.site(**fields).clean()
    with pytest.raises(ValidationError):
        Feed(code="x", kind="price", adapter="file", address="a", unit="kwh").clean()


@pytest.mark.django_db
def test_an_old_value_is_in_force_and_is_shown_as_stale(directory, admin_client):
    owner = make.user()
    organization = make.organization(owner=owner)
    site = make.site(carbon_feed="carbon-1", market_feed="market-1", code="oman-1")
    make.pool(model=make.model(), node=make.node(site=site))
    old = feed("carbon", "gco2e_per_kwh", address="old", stale_seconds=3600)
    feed("market", "gco2e_per_kwh", address="new")
    (directory / "old").write_text(told((-3, 250)))
    (directory / "new").write_text(told((-1, 12)))
    feeds.read_all()
    admin_client.force_login(owner)
    (found,) = admin_client.get("/api/v1/sites").json()["data"]
    assert (found["grid_gco2e_per_kwh"], found["market_gco2e_per_kwh"], found["stale"]) == (250, 12, ["carbon"])
    staff = make.user(is_staff=True, is_superuser=True)
    admin_client.force_login(staff)
    assert re.search(
        "carbon: carbon-1, 3 h ago, STALE; market: market-1, 6[0-9] min ago<",
        admin_client.get(f"/admin/sites/site/{site.pk}/change/").content.decode(),
    )
    assert "STALE: of 3 h ago" in admin_client.get("/admin/sites/feed/").content.decode()
    assert old.is_stale(NOW)
    assert organization


def test_a_job_keeps_both_intensities_of_its_placement(shop):
    place = shop.pool.node.site
    place.market_gco2e_per_kwh = 50
    place.save()
    job = shop.submit()
    place.market_gco2e_per_kwh = 500
    place.save()
    site_of.deliver(site_of.report(job, energy=Energy(gpu_energy_mj=3_600_000, quality="counter")))
    job.refresh_from_db()
    assert job.energy_wh == pytest.approx(1.32)
    assert (job.carbon_gco2e, job.carbon_market_gco2e) == (pytest.approx(0.5016), pytest.approx(0.066))


def test_without_a_contract_there_is_no_market_figure(shop):
    job = shop.submit()
    site_of.deliver(site_of.report(job, energy=Energy(gpu_energy_mj=3_600_000, quality="counter")))
    job.refresh_from_db()
    assert (job.carbon_gco2e, job.carbon_market_gco2e) == (pytest.approx(0.5016), None)


@pytest.mark.django_db
def test_old_values_go_in_one_statement_whatever_their_number(django_assert_num_queries):
    source, other = feed(value=3.0, newest_at=NOW), feed(code="price-2")
    FeedValue.objects.bulk_create(
        FeedValue(feed=each, at=NOW - timedelta(days=days, seconds=second), value=days)
        for each in (source, other)
        for days in (1, 7)
        for second in range(3)
    )
    with django_assert_num_queries(1):
        feeds.forget(timedelta(days=7), NOW)
    assert sorted(FeedValue.objects.values_list("at", flat=True)) == sorted(
        [NOW - timedelta(days=7)] * 2 + [NOW - timedelta(days=1, seconds=second) for second in range(3)] * 2
    )
    source.refresh_from_db()
    assert source.value == 3.0

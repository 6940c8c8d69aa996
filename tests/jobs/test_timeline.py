"""What a job's page says of the sites that were looked at."""

from apps.jobs.pages import timeline


def test_a_site_is_named_once_with_each_reason_however_many_pools_it_has():
    pools = [("a", "Georgia 1", ""), ("b", "Georgia 1", ""), ("c", "Texas 2", ""), ("d", "Texas 2", "node is draining"), ("e", "Texas 2", "")]  # fmt: skip
    candidates = [{"pool": pool, "site": site, "refusal": refusal} for pool, site, refusal in pools]
    costlier = "costlier power or no free slot"
    draining = ("Texas 2", "node is draining")
    assert timeline.others({"chosen": "a", "candidates": candidates}) == [
        ("Georgia 1", costlier),
        ("Texas 2", costlier),
        draining,
    ]
    assert timeline.others({"chosen": "b", "candidates": candidates[:2]}) == [("Georgia 1", costlier)]
    assert timeline.others({"candidates": candidates[3:4]}) == [draining]
    assert timeline.others({}) == []

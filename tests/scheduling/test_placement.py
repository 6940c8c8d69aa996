from apps.scheduling.placement import PoolView, rank


def pool(code: str, usd_per_mwh: float = 50, **fields) -> PoolView:
    return PoolView(
        **{
            "id": 1,
            "code": code,
            "slots": 1,
            "ready": True,
            "draining": False,
            "node_state": "admitted",
            "silent_seconds": 1.0,
            "site": code.title(),
            "region": "Georgia",
            "country": "US",
            "usd_per_mwh": usd_per_mwh,
            "energy_factor": 1.3,
            "grid_gco2e_per_kwh": 380,
            **fields,
        }
    )


def test_the_cheapest_ready_pool_comes_first_and_ties_go_by_code():
    assert [each.pool.code for each in rank([pool("c", 40), pool("b", 30), pool("a", 40)])] == ["b", "a", "c"]


def test_pools_that_may_not_work_come_last_with_their_reason():
    ranked = rank(
        [
            pool("draining", 1, draining=True),
            pool("silent", 2, silent_seconds=6.4),
            pool("unheard", 3, silent_seconds=None),
            pool("broken", 4, ready=False, reason="engine restarting"),
            pool("out", 5, node_state="quarantined"),
            pool("opened", 6, node_state="maintenance"),
            pool("good", 90),
        ]
    )
    assert [(each.pool.code, each.refusal) for each in ranked] == [
        ("good", ""),
        ("draining", "pool is draining"),
        ("silent", "node silent for 6 s"),
        ("unheard", "node was never heard"),
        ("broken", "engine restarting"),
        ("out", "node not admitted"),
        ("opened", "node is in maintenance"),
    ]


def test_partners_nodes_come_after_ours_and_never_take_work_that_is_bound_to_places():
    pools = [pool("partner", 1, trusted=False), pool("ours", 90)]
    assert [(each.pool.code, each.refusal) for each in rank(pools)] == [("ours", ""), ("partner", "")]
    assert [(each.pool.code, each.refusal) for each in rank(pools, ["US"])] == [
        ("ours", ""),
        ("partner", "a partner's node: not for work that is bound to places"),
    ]


def test_what_is_loaded_comes_before_what_would_have_to_be_and_ours_before_both():
    pools = [pool("parked", 1, parked=True), pool("loaded", 90), pool("partner", 0, trusted=False)]
    assert [(each.pool.code, each.refusal) for each in rank(pools)] == [("loaded", ""), ("parked", ""), ("partner", "")]

"""A simulated fleet's rows are of its seed."""

from apps.portal import fleet


def test_the_same_seed_is_the_same_fleet_and_no_gpu_is_twice():
    sites, nodes = fleet.described(20, 1)
    assert (sites, nodes) == fleet.described(20, 1)
    assert nodes != fleet.described(20, 2)[1]
    assert (len(sites), len(nodes), sum(node.partner for node in nodes)) == (6, 20, 2)
    uuids = [uuid for node in nodes for uuid in node.uuids]
    assert len(set(uuids)) == len(uuids)
    assert len({site["power_usd_per_mwh"] for site in sites}) == 6
    assert all(site["contracted_power_w"] <= site["power_cap_w"] for site in sites)
    assert all(0 < node.swing_w < node.base_w for node in nodes)

"""What GPUs said is kept while the portal is away, over restarts and bounded, and leaves once in its order."""

import os
import time

import pytest

from apps.runner import telemetry
from apps.runner.portal import Portal
from apps.runner.telemetry import Recorder
from tests.runner.portal import TOKEN

LOST = {"GPU-1": {"lost": True, "xids": [79]}}


def found(mj):
    return {
        "GPU-0": {
            "energy_mj": mj,
            "power_w": 412.5,
            "memory_mib": {"used": 1000, "total": 143_771},
            "utilization": 0.97,
        }
    }


@pytest.fixture
async def recorder(portal, tmp_path):
    made = []

    def make(boot):
        made.append(Recorder(portal=Portal(url=portal.url, token=TOKEN), directory=tmp_path, boot=boot))
        return made[-1]

    yield make
    for each in made:
        await each.portal.close()


async def test_kept_while_the_portal_is_away_and_sent_in_order_by_the_next_process(recorder, portal, tmp_path):
    first = recorder("one")
    first.start()
    portal.away = True
    for mj in (10, 20, 30):
        first.take(found(mj))
        first.keep()
    first.take(found(40) | LOST)
    assert not await first.send()
    await first.stop(1)
    assert len(list(tmp_path.glob("*.json"))) == 4
    second = recorder("two")
    second.start()
    second.take(found(50))
    second.keep()
    portal.away = False
    assert await second.send()
    said = [(told.boot, each.seq, each.gpus[0].energy_mj) for told in portal.telemetry for each in told.readings]
    assert said == [("one", 1, 10), ("one", 2, 20), ("one", 3, 30), ("one", 4, 40), ("two", 1, 50)]
    gpu, lost = portal.telemetry[3].readings[0].gpus
    assert (gpu.power_w, gpu.memory_used_mib, gpu.temperature_c) == (412.5, 1000, None)
    assert (lost.uuid, lost.power_w, lost.energy_mj) == ("GPU-1", None, None)
    assert list(tmp_path.iterdir()) == []
    await second.stop(1)


async def test_no_more_than_72_hours_and_no_more_than_fits(recorder, tmp_path, monkeypatch):
    mine = recorder("one")
    mine.start()
    for mj in range(5):
        mine.take(found(mj))
        mine.keep()
    oldest, *rest = mine.segments()
    os.utime(oldest, (0, time.time() - telemetry.KEEP_SECONDS - 1))
    mine.keep()
    assert mine.segments() == rest
    monkeypatch.setattr(telemetry, "KEEP_BYTES", sum(path.stat().st_size for path in rest[2:]))
    mine.keep()
    assert mine.segments() == rest[2:]
    await mine.stop(0.1)


async def test_what_is_malformed_keeps_nothing_else_back(recorder, portal, tmp_path):
    mine = recorder("one")
    (tmp_path / "000000000007.part").write_text('{"boot": "zero", "rea')  # killed while it wrote
    mine.start()
    (tmp_path / "000000000001.json").write_text("{")
    mine.number = 1
    wild = found(7)
    wild["GPU-0"]["utilization"] = 97.0  # no ratio
    mine.take(wild)
    assert mine.news().gpus[0].utilization is None
    assert mine.news() is None
    mine.keep()
    assert await mine.send()
    assert [told.readings[0].gpus[0].energy_mj for told in portal.telemetry] == [7]
    assert list(tmp_path.iterdir()) == []
    await mine.stop(0.1)

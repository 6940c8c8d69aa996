"""Readings of runners become minutes, each once: the last look that was counted moves in the transaction that counts it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from psycopg.types.json import Jsonb

from apps.core.sql import Plan, Row, Statement
from apps.runner.protocol import GPUReading, Reading, Telemetry
from apps.telemetry.folding import Part, Said, fold

OLDEST_SECONDS = 73 * 3600.0  # a runner keeps 72 h; older looks are dropped, so that processes may be forgotten
AHEAD_SECONDS = 120.0  # by which a node's clock may be ahead

SOURCE = """
INSERT INTO telemetry_source AS s (node_id, boot, seq) VALUES (%(node)s, %(boot)s, 0)
ON CONFLICT (node_id, boot) DO UPDATE SET heard_at = clock_timestamp() RETURNING s.id, s.seq
"""
LAST = "SELECT uuid, at, energy_mj, power_w FROM telemetry_last WHERE node_id = %(node)s ORDER BY uuid FOR UPDATE"
COUNT = """
WITH part AS (
    SELECT * FROM jsonb_to_recordset(%(parts)s) AS (
        uuid text, at timestamptz, energy_mj bigint, counted_seconds float8, quality text, samples int, power_samples int,
        power_sum_w float8, power_max_w float8, temperature_max_c float8, utilization_samples int, utilization_sum float8,
        memory_max_mib bigint, reasons jsonb)
), counted AS (
    INSERT INTO telemetry_minute AS m (node_id, uuid, at, energy_mj, counted_seconds, quality, samples, power_samples, power_sum_w,
        power_max_w, temperature_max_c, utilization_samples, utilization_sum, memory_max_mib, reasons)
    SELECT %(node)s, uuid, at, energy_mj, counted_seconds, quality, samples, power_samples, power_sum_w, power_max_w,
        temperature_max_c, utilization_samples, utilization_sum, memory_max_mib,
        array(SELECT jsonb_array_elements_text(reasons))
    FROM part ORDER BY uuid, at
    ON CONFLICT (node_id, uuid, at) DO UPDATE SET
        energy_mj = CASE WHEN m.energy_mj IS NULL AND excluded.energy_mj IS NULL THEN NULL
            ELSE coalesce(m.energy_mj, 0) + coalesce(excluded.energy_mj, 0) END,
        counted_seconds = m.counted_seconds + excluded.counted_seconds,
        quality = greatest(m.quality, excluded.quality),  -- '' < counter < integrated
        samples = m.samples + excluded.samples,
        power_samples = m.power_samples + excluded.power_samples,
        power_sum_w = m.power_sum_w + excluded.power_sum_w,
        power_max_w = greatest(m.power_max_w, excluded.power_max_w),
        temperature_max_c = greatest(m.temperature_max_c, excluded.temperature_max_c),
        utilization_samples = m.utilization_samples + excluded.utilization_samples,
        utilization_sum = m.utilization_sum + excluded.utilization_sum,
        memory_max_mib = greatest(m.memory_max_mib, excluded.memory_max_mib),
        reasons = array(SELECT DISTINCT unnest(m.reasons || excluded.reasons) ORDER BY 1)
), last AS (
    INSERT INTO telemetry_last AS l (node_id, uuid, at, energy_mj, power_w)
    SELECT %(node)s, uuid, at, energy_mj, power_w
    FROM jsonb_to_recordset(%(last)s) AS (uuid text, at float8, energy_mj bigint, power_w float8) ORDER BY uuid
    ON CONFLICT (node_id, uuid) DO UPDATE SET at = excluded.at, energy_mj = excluded.energy_mj, power_w = excluded.power_w
)
UPDATE telemetry_source SET seq = %(seq)s WHERE id = %(source)s
"""


def count(node_id: int, told: Telemetry, *, now: float) -> Plan[int]:
    """Count what was not counted before. Returns the last look of this process that is."""
    source = (yield Statement(SOURCE, {"node": node_id, "boot": told.boot}))[0]
    new = sorted((each for each in told.readings if each.seq > source["seq"]), key=lambda each: each.seq)
    if not new:
        return int(source["seq"])
    last = {row["uuid"]: said_before(row) for row in (yield Statement(LAST, {"node": node_id}))}
    believed = [each for each in new if now - OLDEST_SECONDS <= each.at <= now + AHEAD_SECONDS]
    parts, newest = fold(last, [said(each, gpu) for each in believed for gpu in each.gpus])
    changed = [each for uuid, each in sorted(newest.items()) if each is not last.get(uuid)]
    yield Statement(
        COUNT,
        {
            "node": node_id,
            "source": source["id"],
            "seq": new[-1].seq,
            "parts": Jsonb([as_row(part) for part in parts]),
            "last": Jsonb(
                [{"uuid": e.uuid, "at": e.at, "energy_mj": e.energy_mj, "power_w": e.power_w} for e in changed]
            ),
        },
    )
    return new[-1].seq


def said(reading: Reading, gpu: GPUReading) -> Said:
    return Said(
        uuid=gpu.uuid,
        at=reading.at,
        energy_mj=gpu.energy_mj,
        power_w=gpu.power_w if gpu.power_w is not None else gpu.power_average_w,
        temperature_c=gpu.temperature_c,
        utilization=gpu.utilization,
        memory_used_mib=gpu.memory_used_mib,
        reasons=tuple(gpu.clocks_event_reasons or ()),
    )


def said_before(row: Row) -> Said:
    return Said(uuid=row["uuid"], at=row["at"], energy_mj=row["energy_mj"], power_w=row["power_w"])


def as_row(part: Part) -> dict[str, Any]:
    return {
        "uuid": part.uuid,
        "at": datetime.fromtimestamp(part.at, UTC).isoformat(),
        "energy_mj": part.energy_mj,
        "counted_seconds": part.counted_seconds,
        "quality": part.quality,
        "samples": part.samples,
        "power_samples": part.power_samples,
        "power_sum_w": part.power_sum_w,
        "power_max_w": part.power_max_w,
        "temperature_max_c": part.temperature_max_c,
        "utilization_samples": part.utilization_samples,
        "utilization_sum": part.utilization_sum,
        "memory_max_mib": part.memory_max_mib,
        "reasons": sorted(part.reasons),
    }

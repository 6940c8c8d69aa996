"""What was given before grants had rows becomes one grant without an end; every organization gets its budget."""

from django.db import migrations

GRANTS = """
INSERT INTO ledger_grant (id, key, organization_id, amount_microusd, remaining_microusd, expired_microusd, created_at)
SELECT gen_random_uuid(), 'before-grants:' || a.organization_id, a.organization_id,
    a.promotional_microusd + held.promotional, a.promotional_microusd, 0, clock_timestamp()
FROM ledger_account a, LATERAL (
    SELECT coalesce(sum(promotional_microusd), 0) AS promotional FROM ledger_hold h
    WHERE h.organization_id = a.organization_id AND h.state = 'open'
) AS held
WHERE a.promotional_microusd + held.promotional > 0
"""
HOLDS = """
UPDATE ledger_hold h SET grant_ids = ARRAY[g.id], grant_amounts_microusd = ARRAY[h.promotional_microusd]
FROM ledger_grant g WHERE g.key = 'before-grants:' || h.organization_id AND h.state = 'open' AND h.promotional_microusd > 0
"""
BUDGETS = """
INSERT INTO ledger_budget (kind, organization_id, title, total_used_microusd, daily_used_microusd, weekly_used_microusd, monthly_used_microusd, day)
SELECT 'organization', a.organization_id, '', 0, 0, 0, 0, (clock_timestamp() AT TIME ZONE 'UTC')::date FROM ledger_account a
ON CONFLICT DO NOTHING
"""


class Migration(migrations.Migration):
    dependencies = [("ledger", "0003_holding")]
    operations = [
        migrations.RunSQL(GRANTS, "DELETE FROM ledger_grant WHERE key LIKE 'before-grants:%'"),
        migrations.RunSQL(HOLDS, "UPDATE ledger_hold SET grant_ids = '{}', grant_amounts_microusd = '{}'"),
        migrations.RunSQL(BUDGETS, "DELETE FROM ledger_budget WHERE kind = 'organization'"),
    ]

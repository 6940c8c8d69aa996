"""Every key and its creator get the budgets that a new key gets."""

from django.db import migrations

KEYS = """
DO $$
DECLARE
    key record;
    made bigint;
BEGIN
    FOR key IN SELECT id, organization_id, name FROM keys_apikey WHERE budget_id IS NULL LOOP
        INSERT INTO ledger_budget (kind, organization_id, title, total_used_microusd, daily_used_microusd,
            weekly_used_microusd, monthly_used_microusd, day)
        VALUES ('key', key.organization_id, key.name, 0, 0, 0, 0, (clock_timestamp() AT TIME ZONE 'UTC')::date)
        RETURNING id INTO made;
        UPDATE keys_apikey SET budget_id = made WHERE id = key.id;
    END LOOP;
END
$$
"""
MEMBERS = """
INSERT INTO ledger_budget (kind, organization_id, user_id, title, total_used_microusd, daily_used_microusd,
    weekly_used_microusd, monthly_used_microusd, day)
SELECT DISTINCT 'member', k.organization_id, u.id, left(u.email, 120), 0, 0, 0, 0, (clock_timestamp() AT TIME ZONE 'UTC')::date
FROM keys_apikey k JOIN accounts_user u ON u.id = k.created_by_id
ON CONFLICT DO NOTHING
"""
FORGET = """
UPDATE keys_apikey SET budget_id = NULL;
DELETE FROM ledger_budget WHERE kind IN ('key', 'member')
"""


class Migration(migrations.Migration):
    dependencies = [("keys", "0003_budget_index"), ("ledger", "0004_backfill")]
    operations = [migrations.RunSQL(KEYS, migrations.RunSQL.noop), migrations.RunSQL(MEMBERS, FORGET)]

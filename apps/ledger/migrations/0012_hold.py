"""A hold as an expression of a larger statement: a refusal raises, and takes all that the statement wrote back with it.

Who admits a job writes it, its order and its hold as one statement, and needs no transaction around them."""

from django.db import migrations

HOLD = """
CREATE FUNCTION ledger_hold(p_organization uuid, p_amount bigint, p_key text, p_id uuid, p_budgets bigint[])
RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    opened jsonb := ledger_open_hold(p_organization, p_amount, p_key, p_id, p_budgets);
BEGIN
    IF opened ? 'refused' THEN
        RAISE SQLSTATE 'LE402' USING MESSAGE = 'the hold was refused', DETAIL = opened::text;
    END IF;
    RETURN (opened->>'hold')::uuid;
END
$$
"""


class Migration(migrations.Migration):
    dependencies = [("ledger", "0011_one_check_of_budgets")]
    operations = [migrations.RunSQL(HOLD, "DROP FUNCTION ledger_hold(uuid, bigint, text, uuid, bigint[])")]

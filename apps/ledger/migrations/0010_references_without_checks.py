"""Seven foreign keys were checked for each hold, its end and their transfers, at commit, while the account was locked: a
tenth to a quarter of what a pair costs, and each locked the organization's row together with all others that spend at that moment.

They held what the functions know already: whoever writes a hold or a transfer has found the organization's account, whose own
foreign key stays, and the hold that it names. What is left is that nobody takes these rows away, which triggers guard.
`audit_ledger` checks both, and that a transfer and its hold are the same organization's, which no foreign key did."""

from django.db import migrations, models

ACCOUNT_KEPT = """
CREATE FUNCTION ledger_account_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM ledger_transfer WHERE organization_id = OLD.organization_id)
        OR EXISTS (SELECT FROM ledger_hold WHERE organization_id = OLD.organization_id) THEN
        RAISE foreign_key_violation USING MESSAGE = 'the account of ' || OLD.organization_id || ' has holds or transfers';
    END IF;
    RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END
$$;
CREATE TRIGGER ledger_account_kept BEFORE DELETE OR UPDATE OF organization_id ON ledger_account
FOR EACH ROW EXECUTE FUNCTION ledger_account_kept()
"""
HOLD_KEPT = """
CREATE FUNCTION ledger_hold_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM ledger_transfer WHERE hold_id = OLD.id) THEN
        RAISE foreign_key_violation USING MESSAGE = 'the hold ' || OLD.key || ' has transfers';
    END IF;
    RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END
$$;
CREATE TRIGGER ledger_hold_kept BEFORE DELETE OR UPDATE OF id, organization_id ON ledger_hold
FOR EACH ROW EXECUTE FUNCTION ledger_hold_kept()
"""


def unkept(table: str) -> str:
    return f"DROP TRIGGER {table}_kept ON {table}; DROP FUNCTION {table}_kept()"


class Migration(migrations.Migration):
    dependencies = [("ledger", "0009_open_and_end_hold")]
    operations = [
        migrations.RunSQL(ACCOUNT_KEPT, unkept("ledger_account")),
        migrations.RunSQL(HOLD_KEPT, unkept("ledger_hold")),
        migrations.AlterField(
            "hold",
            "organization",
            models.ForeignKey(
                db_constraint=False, on_delete=models.PROTECT, related_name="holds", to="accounts.organization"
            ),
        ),
        migrations.AlterField(
            "transfer",
            "organization",
            models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=models.PROTECT,
                related_name="transfers",
                to="accounts.organization",
            ),
        ),
        migrations.AlterField(
            "transfer",
            "hold",
            models.ForeignKey(
                db_constraint=False, null=True, on_delete=models.PROTECT, related_name="transfers", to="ledger.hold"
            ),
        ),
    ]

from django.db import migrations, models

GUARD = """
CREATE FUNCTION accounts_audit_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'entries of the audit trail are never changed' USING ERRCODE = 'integrity_constraint_violation'; END $$;
CREATE TRIGGER accounts_audit_stays BEFORE UPDATE OR DELETE ON accounts_auditevent
FOR EACH ROW EXECUTE FUNCTION accounts_audit_stays();
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0007_invitation")]
    operations = [
        migrations.AddField(
            model_name="auditevent",
            name="address",
            field=models.GenericIPAddressField(help_text="Of who did it; null where it was no request", null=True),
        ),
        migrations.RunSQL(GUARD, "DROP TRIGGER accounts_audit_stays ON accounts_auditevent; DROP FUNCTION accounts_audit_stays();"),
    ]

"""Indexes nobody reads cost each hold and each transfer a write: prefix search of keys, and the organization alone, which
the index of the newest transfers covers."""

from django.db import migrations, models

PREFIXES = (
    ("ledger_transfer", "ledger_transfer_key_451b4b01_like"),
    ("ledger_hold", "ledger_hold_key_cb71ccd9_like"),
)


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("ledger", "0004_backfill")]
    operations = [
        *(
            migrations.RunSQL(
                f"DROP INDEX CONCURRENTLY IF EXISTS {index}",
                f"CREATE INDEX CONCURRENTLY {index} ON {table} (key varchar_pattern_ops)",
            )
            for table, index in PREFIXES
        ),
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    "DROP INDEX CONCURRENTLY IF EXISTS ledger_transfer_organization_id_bd341e26",
                    "CREATE INDEX CONCURRENTLY IF NOT EXISTS ledger_transfer_organization_id_bd341e26 ON ledger_transfer (organization_id)",
                )
            ],
            state_operations=[
                migrations.AlterField(
                    "transfer",
                    "organization",
                    models.ForeignKey(
                        db_index=False, on_delete=models.PROTECT, related_name="transfers", to="accounts.organization"
                    ),
                )
            ],
        ),
    ]

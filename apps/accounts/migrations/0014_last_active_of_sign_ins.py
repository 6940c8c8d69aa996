from django.db import migrations

# Who is in one organization signed in to it: without this, everybody would read as "never" until their next page.
KNOWN = """
    UPDATE accounts_membership AS m SET last_active_at = u.last_login FROM accounts_user u
    WHERE u.id = m.user_id AND m.last_active_at IS NULL AND u.last_login >= m.created_at
      AND NOT EXISTS (SELECT FROM accounts_membership other WHERE other.user_id = m.user_id AND other.id <> m.id)
"""


class Migration(migrations.Migration):

    dependencies = [
        ("accounts", "0013_last_active"),
    ]

    operations = [
        migrations.RunSQL(KNOWN, migrations.RunSQL.noop),
    ]

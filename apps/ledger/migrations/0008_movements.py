"""Money that comes and goes, as functions: each locks the account row first, as holding does."""

from django.db import migrations

# NULL: the organization has no account. False: the key was used before.
GRANT = """
CREATE FUNCTION ledger_grant_credit(p_organization uuid, p_amount bigint, p_key text, p_reason text, p_actor text, p_expires timestamptz)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM ledger_account WHERE organization_id = p_organization FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    INSERT INTO ledger_transfer (id, key, organization_id, debit, credit, amount_microusd, reason, actor, at)
    VALUES (gen_random_uuid(), p_key, p_organization, 'credits_granted', 'promotional', p_amount, p_reason, p_actor, clock_timestamp())
    ON CONFLICT (key) DO NOTHING;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO ledger_grant (id, key, organization_id, amount_microusd, remaining_microusd, expired_microusd, expires_at, created_at)
    VALUES (gen_random_uuid(), p_key, p_organization, p_amount, p_amount, 0, p_expires, clock_timestamp());
    UPDATE ledger_account SET promotional_microusd = promotional_microusd + p_amount WHERE organization_id = p_organization;
    RETURN true;
END
$$
"""

DEPOSIT = """
CREATE FUNCTION ledger_deposit(p_organization uuid, p_source text, p_amount bigint, p_key text, p_reason text, p_actor text)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    repaid bigint;
BEGIN
    SELECT least(receivable_microusd, p_amount) INTO repaid FROM ledger_account WHERE organization_id = p_organization FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    INSERT INTO ledger_transfer (id, key, organization_id, debit, credit, amount_microusd, reason, actor, at)
    VALUES (gen_random_uuid(), p_key, p_organization, p_source, 'credit', p_amount, p_reason, p_actor, clock_timestamp())
    ON CONFLICT (key) DO NOTHING;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO ledger_transfer (id, key, organization_id, debit, credit, amount_microusd, reason, actor, at)
    SELECT gen_random_uuid(), p_key || ':repaid', p_organization, 'credit', 'receivable', repaid, 'What was owed', p_actor, clock_timestamp()
    WHERE repaid > 0;
    UPDATE ledger_account SET credit_microusd = credit_microusd + p_amount - repaid, receivable_microusd = receivable_microusd - repaid
    WHERE organization_id = p_organization;
    RETURN true;
END
$$
"""

# 'done', 'repeated', 'short' (only where nothing may be owed), or NULL without an account.
WITHDRAW = """
CREATE FUNCTION ledger_withdraw(p_organization uuid, p_target text, p_amount bigint, p_key text, p_reason text, p_actor text, p_owe boolean)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    taken bigint;
BEGIN
    SELECT least(credit_microusd, p_amount) INTO taken FROM ledger_account WHERE organization_id = p_organization FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF EXISTS (SELECT FROM ledger_transfer WHERE key IN (p_key, p_key || ':owed')) THEN
        RETURN 'repeated';
    END IF;
    IF taken < p_amount AND NOT p_owe THEN
        RETURN 'short';
    END IF;
    INSERT INTO ledger_transfer (id, key, organization_id, debit, credit, amount_microusd, reason, actor, at)
    SELECT gen_random_uuid(), p_key || suffix, p_organization, source, p_target, amount, p_reason, p_actor, clock_timestamp()
    FROM (VALUES ('', 'credit', taken), (':owed', 'receivable', p_amount - taken)) AS parts (suffix, source, amount) WHERE amount > 0;
    UPDATE ledger_account SET credit_microusd = credit_microusd - taken, receivable_microusd = receivable_microusd + p_amount - taken
    WHERE organization_id = p_organization;
    RETURN 'done';
END
$$
"""

EXPIRE = """
CREATE FUNCTION ledger_expire(p_grant uuid) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    expired ledger_grant;
BEGIN
    PERFORM FROM ledger_account WHERE organization_id = (SELECT organization_id FROM ledger_grant WHERE id = p_grant) FOR UPDATE;
    SELECT * INTO expired FROM ledger_grant WHERE id = p_grant AND remaining_microusd > 0 AND expires_at <= clock_timestamp();
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    INSERT INTO ledger_transfer (id, key, organization_id, debit, credit, amount_microusd, reason, actor, at)
    VALUES (gen_random_uuid(), 'expire:' || expired.id || ':' || expired.expired_microusd, expired.organization_id,
        'promotional', 'credits_expired', expired.remaining_microusd, 'Not used in time', 'portal', clock_timestamp());
    UPDATE ledger_grant SET remaining_microusd = 0, expired_microusd = expired_microusd + remaining_microusd WHERE id = p_grant;
    UPDATE ledger_account SET promotional_microusd = promotional_microusd - expired.remaining_microusd
    WHERE organization_id = expired.organization_id;
    RETURN expired.remaining_microusd;
END
$$
"""

COLLECT = """
CREATE FUNCTION ledger_collect(p_organization uuid) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    repaid bigint;
BEGIN
    SELECT least(credit_microusd, receivable_microusd) INTO repaid FROM ledger_account WHERE organization_id = p_organization FOR UPDATE;
    IF coalesce(repaid, 0) = 0 THEN
        RETURN 0;
    END IF;
    INSERT INTO ledger_transfer (id, key, organization_id, debit, credit, amount_microusd, reason, actor, at)
    VALUES (gen_random_uuid(), 'collect:' || gen_random_uuid(), p_organization, 'credit', 'receivable', repaid, 'What was owed', 'portal', clock_timestamp());
    UPDATE ledger_account SET credit_microusd = credit_microusd - repaid, receivable_microusd = receivable_microusd - repaid
    WHERE organization_id = p_organization;
    RETURN repaid;
END
$$
"""

FUNCTIONS = [
    (GRANT, "ledger_grant_credit(uuid, bigint, text, text, text, timestamptz)"),
    (DEPOSIT, "ledger_deposit(uuid, text, bigint, text, text, text)"),
    (WITHDRAW, "ledger_withdraw(uuid, text, bigint, text, text, text, boolean)"),
    (EXPIRE, "ledger_expire(uuid)"),
    (COLLECT, "ledger_collect(uuid)"),
]


class Migration(migrations.Migration):
    dependencies = [("ledger", "0007_more_accounts")]
    operations = [migrations.RunSQL(made, f"DROP FUNCTION {signature}") for made, signature in FUNCTIONS]

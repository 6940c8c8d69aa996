"""Less work for a hold and its end. A transfer's id comes from what is at hand, since a random one opens a file of the system
each time: the hold's own id for its one step from paid credit, else a digest of the key, which is as unique."""

from importlib import import_module

from django.db import migrations

OPEN = """
CREATE OR REPLACE FUNCTION ledger_open_hold(p_organization uuid, p_amount bigint, p_key text, p_id uuid, p_budgets bigint[])
RETURNS jsonb LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    own bigint;
    today date;
    counted bigint[];
    touched integer;
    locked boolean;
    opened uuid;
    account ledger_account;
    limited boolean;
    available bigint := 0;
    from_grants bigint := 0;
    ids uuid[] := '{}';
    amounts bigint[] := '{}';
    refusal jsonb;
BEGIN
    -- Read without a lock, so it only says which way to try first: paid credit alone, in windows of today.
    SELECT b.id, b.day INTO own, today
    FROM ledger_account a JOIN ledger_budget b ON b.organization_id = a.organization_id AND b.kind = 'organization'
    WHERE a.organization_id = p_organization AND a.promotional_microusd = 0 AND a.receivable_microusd = 0
      AND a.credit_microusd >= p_amount AND b.day = (clock_timestamp() AT TIME ZONE 'UTC')::date;
    IF FOUND AND p_amount > 0 THEN
        counted := own || p_budgets;
        INSERT INTO ledger_hold (id, key, organization_id, state, promotional_microusd, credit_microusd,
            promotional_charged_microusd, credit_charged_microusd, overrun_microusd, grant_ids, grant_amounts_microusd,
            budget_ids, day, created_at)
        VALUES (p_id, p_key, p_organization, 'open', 0, p_amount, 0, 0, 0, '{}', '{}', counted, today, clock_timestamp())
        ON CONFLICT (key) DO NOTHING;
        IF NOT FOUND THEN
            SELECT id INTO opened FROM ledger_hold WHERE key = p_key;
            RETURN jsonb_build_object('hold', opened);
        END IF;
        INSERT INTO ledger_transfer (id, key, organization_id, debit, credit, amount_microusd, hold_id, reason, actor, at)
        VALUES (p_id, 'reserve:' || p_key || ':credit', p_organization, 'credit', 'held', p_amount, p_id, '', '', clock_timestamp());
        -- What others wait for begins here, and checks again all that was read above. The account's row is written outside
        -- the block below: who waits for a row that a subtransaction wrote is woken at its end, only to wait again.
        UPDATE ledger_account SET credit_microusd = credit_microusd - p_amount, held_microusd = held_microusd + p_amount
        WHERE organization_id = p_organization AND promotional_microusd = 0 AND receivable_microusd = 0 AND credit_microusd >= p_amount;
        locked := FOUND;
        IF locked THEN
            BEGIN
                UPDATE ledger_budget SET
                    total_used_microusd = total_used_microusd + p_amount,
                    daily_used_microusd = daily_used_microusd + p_amount,
                    weekly_used_microusd = weekly_used_microusd + p_amount,
                    monthly_used_microusd = monthly_used_microusd + p_amount
                WHERE id = ANY (counted) AND organization_id = p_organization AND day = today
                  AND (total_limit_microusd IS NULL OR total_used_microusd + p_amount <= total_limit_microusd)
                  AND (daily_limit_microusd IS NULL OR daily_used_microusd + p_amount <= daily_limit_microusd)
                  AND (weekly_limit_microusd IS NULL OR weekly_used_microusd + p_amount <= weekly_limit_microusd)
                  AND (monthly_limit_microusd IS NULL OR monthly_used_microusd + p_amount <= monthly_limit_microusd);
                GET DIAGNOSTICS touched = ROW_COUNT;
                IF touched = cardinality(counted) THEN
                    RETURN jsonb_build_object('hold', p_id);
                END IF;
                RAISE SQLSTATE 'LE001';
            EXCEPTION WHEN SQLSTATE 'LE001' THEN
                NULL;
            END;
            UPDATE ledger_account SET credit_microusd = credit_microusd + p_amount, held_microusd = held_microusd - p_amount
            WHERE organization_id = p_organization;
        END IF;
        -- Nobody has seen these; the way below takes everything into account and names what is short.
        DELETE FROM ledger_transfer WHERE id = p_id;
        DELETE FROM ledger_hold WHERE id = p_id;
    END IF;

    BEGIN
        INSERT INTO ledger_hold (id, key, organization_id, state, promotional_microusd, credit_microusd,
            promotional_charged_microusd, credit_charged_microusd, overrun_microusd, created_at)
        VALUES (p_id, p_key, p_organization, 'open', 0, 0, 0, 0, 0, clock_timestamp()) ON CONFLICT (key) DO NOTHING;
        IF NOT FOUND THEN
            SELECT id INTO opened FROM ledger_hold WHERE key = p_key;
            RETURN jsonb_build_object('hold', opened);
        END IF;
        SELECT * INTO account FROM ledger_account WHERE organization_id = p_organization FOR UPDATE;
        SELECT array_agg(b.id), greatest(max(b.day), (clock_timestamp() AT TIME ZONE 'UTC')::date),
            bool_or(num_nonnulls(b.total_limit_microusd, b.daily_limit_microusd, b.weekly_limit_microusd, b.monthly_limit_microusd) > 0)
        INTO counted, today, limited
        FROM ledger_budget b WHERE b.organization_id = p_organization AND (b.kind = 'organization' OR b.id = ANY (p_budgets));

        IF account.promotional_microusd > 0 THEN
            SELECT coalesce(array_agg(id ORDER BY n) FILTER (WHERE part > 0), '{}'),
                coalesce(array_agg(part ORDER BY n) FILTER (WHERE part > 0), '{}'),
                coalesce(sum(part), 0), coalesce(sum(remaining_microusd), 0)
            INTO ids, amounts, from_grants, available
            FROM (
                SELECT id, remaining_microusd, row_number() OVER line AS n,
                    least(remaining_microusd, greatest(p_amount - (sum(remaining_microusd) OVER line - remaining_microusd), 0)) AS part
                FROM ledger_grant
                WHERE organization_id = p_organization AND remaining_microusd > 0
                  AND (expires_at IS NULL OR expires_at > clock_timestamp())
                WINDOW line AS (ORDER BY expires_at NULLS LAST, created_at, id ROWS UNBOUNDED PRECEDING)
            ) AS parts;
        END IF;
        available := available + coalesce(account.credit_microusd, 0);
        IF account.receivable_microusd > 0 THEN
            refusal := jsonb_build_object('refused', 'owed', 'owed', account.receivable_microusd);
        ELSIF account.id IS NULL OR available < p_amount THEN
            refusal := jsonb_build_object('refused', 'credit', 'available', available);
        ELSIF limited THEN
            SELECT jsonb_build_object('refused', 'budget', 'kind', b.kind, 'title', b.title, 'period', w.period, 'most', w.most, 'used', w.used)
            INTO refusal
            FROM ledger_budget b, LATERAL (VALUES
                ('total', b.total_limit_microusd, b.total_used_microusd),
                ('daily', b.daily_limit_microusd, CASE WHEN b.day = today THEN b.daily_used_microusd ELSE 0 END),
                ('weekly', b.weekly_limit_microusd, CASE WHEN date_trunc('week', b.day) = date_trunc('week', today) THEN b.weekly_used_microusd ELSE 0 END),
                ('monthly', b.monthly_limit_microusd, CASE WHEN date_trunc('month', b.day) = date_trunc('month', today) THEN b.monthly_used_microusd ELSE 0 END)
            ) AS w (period, most, used)
            WHERE b.id = ANY (counted) AND w.used + p_amount > w.most
            ORDER BY w.most - w.used LIMIT 1;
        END IF;
        IF refusal IS NOT NULL THEN
            RAISE SQLSTATE 'LE001';
        END IF;

        UPDATE ledger_budget SET
            total_used_microusd = total_used_microusd + p_amount,
            daily_used_microusd = CASE WHEN day = today THEN daily_used_microusd ELSE 0 END + p_amount,
            weekly_used_microusd = CASE WHEN date_trunc('week', day) = date_trunc('week', today) THEN weekly_used_microusd ELSE 0 END + p_amount,
            monthly_used_microusd = CASE WHEN date_trunc('month', day) = date_trunc('month', today) THEN monthly_used_microusd ELSE 0 END + p_amount,
            day = today
        WHERE id = ANY (counted);
        IF from_grants > 0 THEN
            UPDATE ledger_grant SET remaining_microusd = remaining_microusd - parts.part
            FROM unnest(ids, amounts) AS parts (id, part) WHERE ledger_grant.id = parts.id;
        END IF;
        WITH held AS (
            UPDATE ledger_hold SET promotional_microusd = from_grants, credit_microusd = p_amount - from_grants, grant_ids = ids,
                grant_amounts_microusd = amounts, budget_ids = coalesce(counted, '{}'), day = today
            WHERE id = p_id
        ), journal AS (
            INSERT INTO ledger_transfer (id, key, organization_id, debit, credit, amount_microusd, hold_id, reason, actor, at)
            SELECT gen_random_uuid(), 'reserve:' || p_key || ':' || source, p_organization, source, 'held', amount, p_id, '', '', clock_timestamp()
            FROM (VALUES ('promotional', from_grants), ('credit', p_amount - from_grants)) AS parts (source, amount) WHERE amount > 0
        )
        UPDATE ledger_account SET
            promotional_microusd = promotional_microusd - from_grants,
            credit_microusd = credit_microusd - (p_amount - from_grants),
            held_microusd = held_microusd + p_amount
        WHERE organization_id = p_organization;
        RETURN jsonb_build_object('hold', p_id);
    EXCEPTION WHEN SQLSTATE 'LE001' THEN
        RETURN refusal;
    END;
END
$$
"""

# What was charged, given back and overrun, and 1 for a repetition. NULL: there is no such hold.
END = """
CREATE OR REPLACE FUNCTION ledger_end_hold(p_key text, p_cost bigint, p_part text)
RETURNS bigint[] LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    held ledger_hold;
    prefix text := 'end:' || p_key;
    ended boolean := false;
    from_promotional bigint;
    from_credit bigint;
    charged bigint;
    overrun bigint;
    back_promotional bigint := 0;
    back_credit bigint := 0;
    returned bigint;
    touched integer;
BEGIN
    IF p_part IS NULL THEN
        -- Nearly every hold: open, and nothing charged to it before.
        UPDATE ledger_hold SET
            state = CASE WHEN p_cost > 0 THEN 'settled' ELSE 'released' END,
            ended_at = clock_timestamp(),
            promotional_charged_microusd = least(p_cost, promotional_microusd),
            credit_charged_microusd = least(p_cost - least(p_cost, promotional_microusd), credit_microusd),
            overrun_microusd = greatest(p_cost - promotional_microusd - credit_microusd, 0)
        WHERE key = p_key AND state = 'open' AND promotional_charged_microusd = 0 AND credit_charged_microusd = 0 AND overrun_microusd = 0
        RETURNING * INTO held;
        ended := FOUND;
    ELSE
        prefix := 'part:' || p_key || ':' || p_part;
    END IF;
    IF ended THEN
        charged := held.promotional_charged_microusd + held.credit_charged_microusd;
        overrun := held.overrun_microusd;
    ELSE
        SELECT * INTO held FROM ledger_hold WHERE key = p_key FOR UPDATE;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
        IF held.state <> 'open' OR p_part IS NOT NULL AND EXISTS (
            SELECT FROM ledger_transfer WHERE key IN (prefix || ':charge', prefix || ':overrun')
        ) THEN
            charged := held.promotional_charged_microusd + held.credit_charged_microusd;
            returned := CASE WHEN held.state = 'open' THEN 0 ELSE held.promotional_microusd + held.credit_microusd - charged END;
            RETURN ARRAY[charged, returned, held.overrun_microusd, 1];
        END IF;
        from_promotional := least(p_cost, held.promotional_microusd - held.promotional_charged_microusd);
        from_credit := least(p_cost - from_promotional, held.credit_microusd - held.credit_charged_microusd);
        charged := from_promotional + from_credit;
        overrun := p_cost - charged;
        held.promotional_charged_microusd := held.promotional_charged_microusd + from_promotional;
        held.credit_charged_microusd := held.credit_charged_microusd + from_credit;
        UPDATE ledger_hold SET
            state = CASE
                WHEN p_part IS NOT NULL THEN 'open'
                WHEN held.promotional_charged_microusd + held.credit_charged_microusd + held.overrun_microusd + overrun > 0 THEN 'settled'
                ELSE 'released' END,
            ended_at = CASE WHEN p_part IS NULL THEN clock_timestamp() END,
            promotional_charged_microusd = held.promotional_charged_microusd,
            credit_charged_microusd = held.credit_charged_microusd,
            overrun_microusd = held.overrun_microusd + overrun
        WHERE id = held.id;
    END IF;
    IF p_part IS NULL THEN
        back_promotional := held.promotional_microusd - held.promotional_charged_microusd;
        back_credit := held.credit_microusd - held.credit_charged_microusd;
    END IF;
    returned := back_promotional + back_credit;

    INSERT INTO ledger_transfer (id, key, organization_id, debit, credit, amount_microusd, hold_id, reason, actor, at)
    SELECT encode(substr(sha256(convert_to(prefix || ':' || step, 'UTF8')), 1, 16), 'hex')::uuid, prefix || ':' || step,
        held.organization_id, source, target, amount, held.id, '', '', clock_timestamp()
    FROM (VALUES
        ('charge', 'held', 'revenue', charged),
        ('return:promotional', 'held', 'promotional', back_promotional),
        ('return:credit', 'held', 'credit', back_credit),
        ('overrun', 'house:overrun', 'revenue', overrun)
    ) AS steps (step, source, target, amount) WHERE amount > 0;
    -- What others wait for comes last: the account, and after it what only its lock guards.
    UPDATE ledger_account SET
        held_microusd = held_microusd - charged - returned,
        promotional_microusd = promotional_microusd + back_promotional,
        credit_microusd = credit_microusd + back_credit
    WHERE organization_id = held.organization_id;
    IF back_promotional > 0 THEN
        UPDATE ledger_grant SET remaining_microusd = remaining_microusd + parts.back
        FROM (
            SELECT id, amount - least(amount, greatest(held.promotional_charged_microusd - (sum(amount) OVER line - amount), 0)) AS back
            FROM unnest(held.grant_ids, held.grant_amounts_microusd) WITH ORDINALITY AS parts (id, amount, n)
            WINDOW line AS (ORDER BY n ROWS UNBOUNDED PRECEDING)
        ) AS parts
        WHERE ledger_grant.id = parts.id AND parts.back > 0;
    END IF;
    IF returned > 0 THEN
        UPDATE ledger_budget SET
            total_used_microusd = total_used_microusd - returned,
            daily_used_microusd = daily_used_microusd - returned,
            weekly_used_microusd = weekly_used_microusd - returned,
            monthly_used_microusd = monthly_used_microusd - returned
        WHERE id = ANY (held.budget_ids) AND day = held.day;
        GET DIAGNOSTICS touched = ROW_COUNT;
        IF touched < cardinality(held.budget_ids) THEN  -- a new day has begun since
            UPDATE ledger_budget SET
                total_used_microusd = total_used_microusd - returned,
                weekly_used_microusd = weekly_used_microusd
                    - CASE WHEN date_trunc('week', day) = date_trunc('week', held.day) THEN returned ELSE 0 END,
                monthly_used_microusd = monthly_used_microusd
                    - CASE WHEN date_trunc('month', day) = date_trunc('month', held.day) THEN returned ELSE 0 END
            WHERE id = ANY (held.budget_ids) AND day IS DISTINCT FROM held.day;
        END IF;
    END IF;
    RETURN ARRAY[charged, returned, overrun, 0];
END
$$
"""

before = import_module("apps.ledger.migrations.0009_open_and_end_hold")
FUNCTIONS = [(OPEN, before.OPEN), (END, before.END)]


class Migration(migrations.Migration):
    dependencies = [("ledger", "0016_hold_with_two_checks")]
    operations = [
        migrations.RunSQL(made, former.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
        for made, former in FUNCTIONS
    ]

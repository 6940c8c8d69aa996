"""Holding and ending as functions. Whoever changes an organization's money, grants or budgets locks its account row first:
what is read after that is the newest, and nobody else moves them until the transaction ends. Statements are few and their
plans generic, since each organization's line moves as fast as this runs."""

from django.db import migrations

RESERVE = """
CREATE FUNCTION ledger_reserve(p_organization uuid, p_amount bigint, p_key text, p_id uuid, p_budgets bigint[])
RETURNS TABLE (hold uuid, refused text, available bigint, owed bigint, budget bigint, period text, most bigint, used bigint)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    account ledger_account;
    today date;
    counted bigint[];
    limited boolean;
    from_grants bigint := 0;
    ids uuid[] := '{}';
    amounts bigint[] := '{}';
BEGIN
    SELECT * INTO account FROM ledger_account WHERE organization_id = p_organization FOR UPDATE;
    SELECT (SELECT h.id FROM ledger_hold h WHERE h.key = p_key),
        array_agg(b.id), greatest(max(b.day), (clock_timestamp() AT TIME ZONE 'UTC')::date),
        bool_or(num_nonnulls(b.total_limit_microusd, b.daily_limit_microusd, b.weekly_limit_microusd, b.monthly_limit_microusd) > 0)
    INTO hold, counted, today, limited
    FROM ledger_budget b WHERE b.organization_id = p_organization AND (b.kind = 'organization' OR b.id = ANY (p_budgets));
    IF hold IS NOT NULL THEN
        RETURN NEXT;
        RETURN;
    END IF;

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
    available := coalesce(available, 0) + coalesce(account.credit_microusd, 0);
    owed := coalesce(account.receivable_microusd, 0);
    IF owed > 0 THEN
        refused := 'owed';
    ELSIF account.id IS NULL OR available < p_amount THEN
        refused := 'credit';
    END IF;
    IF refused IS NOT NULL THEN
        RETURN NEXT;
        RETURN;
    END IF;

    IF limited THEN
        SELECT b.id, w.period, w.most, w.used INTO budget, period, most, used
        FROM ledger_budget b, LATERAL (VALUES
            ('total', b.total_limit_microusd, b.total_used_microusd),
            ('daily', b.daily_limit_microusd, CASE WHEN b.day = today THEN b.daily_used_microusd ELSE 0 END),
            ('weekly', b.weekly_limit_microusd, CASE WHEN date_trunc('week', b.day) = date_trunc('week', today) THEN b.weekly_used_microusd ELSE 0 END),
            ('monthly', b.monthly_limit_microusd, CASE WHEN date_trunc('month', b.day) = date_trunc('month', today) THEN b.monthly_used_microusd ELSE 0 END)
        ) AS w (period, most, used)
        WHERE b.id = ANY (counted) AND w.used + p_amount > w.most
        ORDER BY w.most - w.used LIMIT 1;
        IF FOUND THEN
            refused := 'budget';
            RETURN NEXT;
            RETURN;
        END IF;
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
        INSERT INTO ledger_hold (id, key, organization_id, state, promotional_microusd, credit_microusd,
            promotional_charged_microusd, credit_charged_microusd, overrun_microusd, grant_ids, grant_amounts_microusd,
            budget_ids, day, created_at)
        VALUES (p_id, p_key, p_organization, 'open', from_grants, p_amount - from_grants, 0, 0, 0, ids, amounts,
            coalesce(counted, '{}'), today, clock_timestamp())
    ), journal AS (
        INSERT INTO ledger_transfer (id, key, organization_id, debit, credit, amount_microusd, hold_id, reason, actor, at)
        SELECT gen_random_uuid(), 'reserve:' || p_key || ':' || source, p_organization, source, 'held', amount, p_id, '', '', clock_timestamp()
        FROM (VALUES ('promotional', from_grants), ('credit', p_amount - from_grants)) AS parts (source, amount) WHERE amount > 0
    )
    UPDATE ledger_account SET
        promotional_microusd = promotional_microusd - from_grants,
        credit_microusd = credit_microusd - (p_amount - from_grants),
        held_microusd = held_microusd + p_amount
    WHERE id = account.id;
    hold := p_id;
    RETURN NEXT;
END
$$
"""

END = """
CREATE FUNCTION ledger_end(p_key text, p_cost bigint, p_part text)
RETURNS TABLE (charged bigint, returned bigint, overrun bigint, repeated boolean)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    held ledger_hold;
    prefix text := CASE WHEN p_part IS NULL THEN 'end:' || p_key ELSE 'part:' || p_key || ':' || p_part END;
    from_promotional bigint;
    from_credit bigint;
    back_promotional bigint := 0;
    back_credit bigint := 0;
BEGIN
    SELECT * INTO held FROM ledger_hold WHERE key = p_key FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF held.state <> 'open' OR p_part IS NOT NULL AND EXISTS (
        SELECT FROM ledger_transfer WHERE key IN (prefix || ':charge', prefix || ':overrun')
    ) THEN
        charged := held.promotional_charged_microusd + held.credit_charged_microusd;
        returned := CASE WHEN held.state = 'open' THEN 0 ELSE held.promotional_microusd + held.credit_microusd - charged END;
        overrun := held.overrun_microusd;
        repeated := true;
        RETURN NEXT;
        RETURN;
    END IF;

    from_promotional := least(p_cost, held.promotional_microusd - held.promotional_charged_microusd);
    from_credit := least(p_cost - from_promotional, held.credit_microusd - held.credit_charged_microusd);
    charged := from_promotional + from_credit;
    overrun := p_cost - charged;
    repeated := false;
    held.promotional_charged_microusd := held.promotional_charged_microusd + from_promotional;
    held.credit_charged_microusd := held.credit_charged_microusd + from_credit;
    IF p_part IS NULL THEN
        back_promotional := held.promotional_microusd - held.promotional_charged_microusd;
        back_credit := held.credit_microusd - held.credit_charged_microusd;
    END IF;
    returned := back_promotional + back_credit;

    WITH journal AS (
        INSERT INTO ledger_transfer (id, key, organization_id, debit, credit, amount_microusd, hold_id, reason, actor, at)
        SELECT gen_random_uuid(), prefix || ':' || step, held.organization_id, source, target, amount, held.id, '', '', clock_timestamp()
        FROM (VALUES
            ('charge', 'held', 'revenue', charged),
            ('return:promotional', 'held', 'promotional', back_promotional),
            ('return:credit', 'held', 'credit', back_credit),
            ('overrun', 'house:overrun', 'revenue', overrun)
        ) AS steps (step, source, target, amount) WHERE amount > 0
    )
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
            daily_used_microusd = daily_used_microusd - CASE WHEN day = held.day THEN returned ELSE 0 END,
            weekly_used_microusd = weekly_used_microusd
                - CASE WHEN date_trunc('week', day) = date_trunc('week', held.day) THEN returned ELSE 0 END,
            monthly_used_microusd = monthly_used_microusd
                - CASE WHEN date_trunc('month', day) = date_trunc('month', held.day) THEN returned ELSE 0 END
        WHERE id = ANY (held.budget_ids);
    END IF;
    RETURN NEXT;
END
$$
"""

FUNCTIONS = [
    (RESERVE, "ledger_reserve(uuid, bigint, text, uuid, bigint[])"),
    (END, "ledger_end(text, bigint, text)"),
]


class Migration(migrations.Migration):
    dependencies = [("ledger", "0002_grants_and_budgets")]
    operations = [migrations.RunSQL(made, f"DROP FUNCTION {signature}") for made, signature in FUNCTIONS]

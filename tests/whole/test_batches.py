"""A batch through the whole portal by the official client, while its site and a worker are killed."""

import json

import openai
import pytest

from tests.started import Portal

pytestmark = pytest.mark.whole

ROWS = 400
LEASE_SECONDS = 45


@pytest.mark.timeout(300)
def test_a_batch_whose_site_and_worker_are_killed_charges_each_row_once(portal: Portal) -> None:
    client = openai.OpenAI(base_url=f"{portal.base_url}/v1", api_key=portal.demo["api_key"], max_retries=5, timeout=60)
    body = {"model": "cango/demo-chat", "messages": [{"role": "user", "content": "Say hello"}], "max_tokens": 16}
    lines = [
        {"custom_id": f"row-{n}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        for n in range(1, ROWS + 1)
    ]
    content = "\n".join(json.dumps(line) for line in lines).encode()
    file = client.files.create(file=("input.jsonl", content), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    portal.wait_until(lambda: client.batches.retrieve(batch.id).request_counts.completed > 20, seconds=90)
    portal.wait_restarted("runner", portal.kill("runner"))
    portal.kill("worker")
    portal.wait_until(lambda: client.batches.retrieve(batch.id).status == "completed", seconds=LEASE_SECONDS + 150)
    batch = client.batches.retrieve(batch.id)
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"total": ROWS, "completed": ROWS, "failed": 0}
    assert batch.output_file_id
    answers = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    assert {answer["custom_id"] for answer in answers} == {line["custom_id"] for line in lines}
    costs = [answer["response"]["body"]["usage"]["cost_microusd"] for answer in answers]
    (booked,) = portal.sql(
        """
        SELECT h.state, h.promotional_charged_microusd + h.credit_charged_microusd AS charged, (
            SELECT sum(amount_microusd) FROM ledger_transfer t WHERE t.hold_id = h.id AND debit = 'held' AND credit = 'revenue'
        )::bigint AS journal FROM ledger_hold h WHERE h.key LIKE 'batch:%%' ORDER BY h.created_at DESC LIMIT 1
        """
    )
    assert booked == {"state": "settled", "charged": sum(costs), "journal": sum(costs)}
    (rows,) = portal.sql("SELECT count(*) AS rows, count(DISTINCT (batch_id, line)) AS lines FROM batches_row")
    assert rows["rows"] == rows["lines"] >= ROWS

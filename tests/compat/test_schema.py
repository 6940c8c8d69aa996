"""Every operation of the OpenAPI document, asked by schemathesis with values that fit it and values that do not.

No answer is a 5xx, and each has a status, a media type and a shape that the document knows. The examples are the same in each
run; `FUZZ=500` asks for so many new ones of each operation.
"""

import os

import hypothesis
import pytest
import schemathesis
from drf_spectacular.generators import SchemaGenerator
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

FUZZ = int(os.environ.get("FUZZ", "0"))
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.unsupported_method,
]

document = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
schema = schemathesis.openapi.from_dict(document)


@pytest.mark.fuzz
@pytest.mark.timeout(600 if FUZZ else 180)
@schema.parametrize()
@hypothesis.settings(
    max_examples=FUZZ or 10,
    deadline=None,
    derandomize=not FUZZ,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
def test_the_document_is_true(portal, case):
    case.call_and_validate(
        base_url=portal.base_url,
        headers={"authorization": f"Bearer {portal.demo['api_key']}"},
        checks=CHECKS,
        timeout=60,
    )

import pytest
from django.core.management import call_command
from django.test import Client


@pytest.mark.story
@pytest.mark.django_db
def test_the_document_is_valid_and_has_both_doors(tmp_path):
    target = tmp_path / "schema.json"
    call_command(
        "spectacular",
        "--format",
        "openapi-json",
        "--validate",
        "--fail-on-warn",
        "--file",
        str(target),
        skip_checks=True,
    )
    response = Client().get("/api/schema/?format=json")
    document = response.json()
    assert {"/v1/chat/completions", "/v1/embeddings", "/v1/models", "/api/v1/jobs", "/api/v1/balance"} <= set(
        document["paths"]
    )
    assert document["paths"]["/api/v1/jobs"]["post"]["requestBody"]["content"].keys() == {
        "application/json",
        "multipart/form-data",
    }
    assert document["paths"]["/v1/responses/{response}"].keys() == {"get", "delete"}
    assert "previous_response_id" in document["components"]["schemas"]["ResponsesRequest"]["properties"]
    assert "messages" in document["components"]["schemas"]["ChatRequest"]["properties"]
    assert document["components"]["securitySchemes"]["apiKey"]["scheme"] == "bearer"


@pytest.mark.django_db
def test_the_page_brings_everything_from_here():
    page = Client().get("/api/docs/")
    assert page.status_code == 200
    text = page.content.decode()
    assert "<style" not in text
    assert "style=" not in text
    assert "https://" not in text
    script = Client().get("/api/docs/?script=")
    assert script["content-type"].startswith("application/javascript")
    assert "/api/schema/" in script.content.decode()

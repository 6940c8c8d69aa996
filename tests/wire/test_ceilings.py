import json

from hypothesis import given
from hypothesis import strategies as st

from apps.wire import ceilings

TEXT = st.text(max_size=200)


def body(*texts, **fields):
    return {"messages": [{"role": "user", "content": text} for text in texts], **fields}


@given(st.lists(TEXT, min_size=1, max_size=5))
def test_the_ceiling_covers_every_byte_and_the_template(texts):
    size = sum(len(text.encode()) for text in texts)
    ceiling = ceilings.prompt_tokens_ceiling(body(*texts), 0)
    assert ceiling >= size + 16 * len(texts)
    assert ceilings.prompt_tokens_ceiling(body(*texts), 100) == min(ceiling, 100)
    assert ceilings.prompt_tokens_floor(body(*texts)) <= ceiling


@given(TEXT, TEXT)
def test_parts_tools_and_formats_count(text, description):
    plain = ceilings.prompt_tokens_ceiling(body(text), 0)
    parts = {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": text}, {"type": "text", "text": description}]}
        ]
    }
    assert ceilings.prompt_tokens_ceiling(parts, 0) >= plain + len(description.encode())
    tools = [{"type": "function", "function": {"name": "f", "description": description}}]
    assert ceilings.prompt_tokens_ceiling(body(text, tools=tools), 0) >= plain + len(
        json.dumps(tools, ensure_ascii=False).encode()
    )
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {description: 1}}}
    assert ceilings.prompt_tokens_ceiling(body(text, response_format=schema), 0) > plain + len(description.encode())


def test_completions_are_bounded_for_each_choice():
    assert ceilings.completion_tokens_ceiling({}, 1000) == 1000
    assert ceilings.completion_tokens_ceiling({"max_tokens": 10}, 1000) == 10
    assert ceilings.completion_tokens_ceiling({"max_tokens": 10, "max_completion_tokens": 20, "n": 3}, 1000) == 60
    assert ceilings.completion_tokens_ceiling({"max_completion_tokens": None, "n": None}, 1000) == 1000


def test_each_input_of_embeddings_has_the_whole_context():
    assert ceilings.prompt_tokens_ceiling({"input": "a" * 1000}, 512) == 512
    assert ceilings.prompt_tokens_ceiling({"input": ["a" * 1000, "b" * 10]}, 512) == 512 + 26
    assert ceilings.prompt_tokens_ceiling({"input": [1, 2, 3]}, 512) == 19
    assert ceilings.prompt_tokens_ceiling({"input": [[1, 2, 3], [4]]}, 512) == 19 + 17
    assert ceilings.prompt_tokens_floor({"input": [[1] * 600, [2]]}) == 600

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.core import jsons

WORDS = st.text(st.characters(exclude_categories=["Cs"]))


def values(integers):
    leaves = st.none() | st.booleans() | integers | st.floats(allow_nan=False, allow_infinity=False) | WORDS
    return st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(WORDS, inner))


@pytest.mark.story
@given(values(st.integers()))
def test_the_standard_library_reads_what_was_encoded(value):
    assert json.loads(jsons.encoded(value)) == value


@pytest.mark.story
@given(values(st.integers(min_value=-(2**63), max_value=2**64 - 1)), st.booleans())
def test_what_the_standard_library_wrote_is_decoded(value, ascii_only):
    assert jsons.decoded(json.dumps(value, ensure_ascii=ascii_only)) == value


def test_half_of_a_surrogate_pair_is_no_text_unless_it_is_asked_for():
    with pytest.raises(UnicodeEncodeError):
        jsons.encoded({"said": "\ud83d"})
    assert jsons.encoded({"said": "\ud83d"}, errors="surrogatepass") == b'{"said":"\xed\xa0\xbd"}'
    assert jsons.decoded(b'{"said": "\\ud83d"}') == {"said": "\ud83d"}


@pytest.mark.parametrize("content", [b"", b"{", b"[1,]", b'"\xff"'])
def test_what_is_no_json_is_refused(content):
    with pytest.raises((json.JSONDecodeError, UnicodeDecodeError)):
        jsons.decoded(content)

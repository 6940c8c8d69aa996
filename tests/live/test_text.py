"""Text served from any offset in UTF-16 code units."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.live import topics
from apps.live.topics import Text


def joined(parts):
    return "".join(part for _, part in parts)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60), st.integers(0, 130))
def test_every_offset_gives_the_rest(text, start):
    parts = Text(text).slices(start, complete=True)
    units = text.encode("utf-16-le")
    if start >= len(units) // 2:
        assert parts == []
        return
    begun = parts[0][0]
    assert start - 1 <= begun <= start
    assert joined(parts) == units[2 * begun :].decode("utf-16-le")


@given(st.text(alphabet="a🥐面", max_size=50), st.integers(1, 5))
def test_slices_never_split_a_pair(text, size):
    before, topics.SLICE_UNITS = topics.SLICE_UNITS, size + 1
    try:
        parts = Text(text).slices(0, complete=True)
    finally:
        topics.SLICE_UNITS = before
    assert joined(parts) == text
    offset = 0
    for start, part in parts:
        assert start == offset
        part.encode()  # whole characters only
        offset += topics.length(part)


def test_half_a_pair_waits_for_its_other_half():
    text = Text("a\ud83e")
    assert text.slices(0, complete=False) == [(0, "a")]
    assert text.slices(1, complete=False) == []
    text.append("\udd50b")
    assert text.slices(1, complete=False) == [(1, "🥐b")]
    assert text.slices(2, complete=False) == [(1, "🥐b")]


def test_half_a_pair_at_the_very_end_is_sent_as_it_is():
    assert Text("a\ud83e").slices(0, complete=True) == [(0, "a\ud83e")]
    assert str(Text("a\ud83e")) == "a\ufffd"


@pytest.mark.parametrize(("text", "length"), [("", 0), ("abc", 3), ("🥐", 2), ("面包", 2), ("\ud83e", 1)])
def test_length_is_what_javascript_says(text, length):
    assert topics.length(text) == len(Text(text)) == length

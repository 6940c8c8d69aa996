"""What is stored of text is encrypted, bound to what it belongs to, and opened by every key that is still among the settings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.files import sealing

VALUES = st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@pytest.mark.story
@given(VALUES, st.binary(max_size=40))
def test_what_is_sealed_opens_as_it_was_and_says_nothing(value, about):
    sealed = sealing.seal_json(value, about)
    assert sealing.unseal_json(sealed, about) == value
    assert sealing.seal_json(value, about) != sealed
    with pytest.raises(sealing.Unreadable):
        sealing.unseal_json(sealed, about + b"!")


def test_half_of_a_pair_is_kept_as_it_is():
    assert sealing.unseal_json(sealing.seal_json("\ud83d", b""), b"") == "\ud83d"


def test_every_changed_byte_is_found():
    sealed = sealing.seal(b"bread", b"job")
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(sealing.Unreadable):
            sealing.unseal(bytes(changed), b"job")
    for length in range(len(sealed)):
        with pytest.raises(sealing.Unreadable):
            sealing.unseal(sealed[:length], b"job")


def test_keys_are_replaced_one_after_the_other(settings):
    by_secret = sealing.seal(b"0", b"")
    settings.CONTENT_KEYS = ["first" * 8]
    by_first = sealing.seal(b"1", b"")
    settings.CONTENT_KEYS = ["second" * 8, "first" * 8]
    by_second = sealing.seal(b"2", b"")
    assert [sealing.unseal(each, b"") for each in (by_secret, by_first, by_second)] == [b"0", b"1", b"2"]
    settings.CONTENT_KEYS = ["second" * 8]
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another" * 8, [settings.SECRET_KEY]
    assert [sealing.unseal(each, b"") for each in (by_secret, by_second)] == [b"0", b"2"]
    with pytest.raises(sealing.Unreadable):
        sealing.unseal(by_first, b"")
    settings.SECRET_KEY_FALLBACKS = []
    with pytest.raises(sealing.Unreadable):
        sealing.unseal(by_secret, b"")

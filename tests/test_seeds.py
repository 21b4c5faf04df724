"""Named streams: the same name gives the same numbers, another name gives others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from anonsynth.seeds import stream, stream_seed

NAMES = st.lists(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=8), min_size=1, max_size=3)


@given(seed=st.integers(0, 2**40), names=NAMES)
def test_a_stream_is_reproducible_and_in_range(seed: int, names: list[str]) -> None:
    assert 0 <= stream_seed(seed, *names) < 2**63
    assert stream(seed, *names).integers(2**60) == stream(seed, *names).integers(2**60)


@given(seed=st.integers(0, 2**40), one=NAMES, other=NAMES)
def test_other_names_and_other_seeds_give_other_streams(seed: int, one: list[str], other: list[str]) -> None:
    assert (stream_seed(seed, *one) == stream_seed(seed, *other)) == (one == other)
    assert stream_seed(seed, *one) != stream_seed(seed + 1, *one)


def test_streams_are_the_same_on_every_machine() -> None:
    assert stream_seed(0, "split") == 6812300375708456965

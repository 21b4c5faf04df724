"""The split: by patient, from the seed alone, a share of every group."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anonsynth.cohort.model import Split
from anonsynth.cohort.split import pseudonyms, split_patients
from anonsynth.errors import UsageError

patients = st.dictionaries(
    st.text("abcdef0123456789", min_size=1, max_size=6), st.sampled_from(["x", "y", "z"]), min_size=2, max_size=60
)


@settings(max_examples=60, deadline=None)
@given(groups=patients, fraction=st.floats(0.05, 0.6), seed=st.integers(0, 2**31))
def test_the_split_does_not_depend_on_order_and_has_the_size_asked_for(
    groups: dict[str, str], fraction: float, seed: int
) -> None:
    split = split_patients(groups, fraction, seed)
    again = split_patients(dict(reversed(list(groups.items()))), fraction, seed)
    assert split == again
    held = [patient for patient, side in split.items() if side is Split.HOLDOUT]
    assert len(held) == min(max(1, round(fraction * len(groups))), len(groups) - 1)
    sizes, counts = Counter(groups.values()), Counter(groups[patient] for patient in held)
    for group, size in sizes.items():
        assert abs(counts[group] - len(held) * size / len(groups)) < 1


def test_another_seed_draws_another_holdout() -> None:
    groups = {f"p{n}": "n/a" for n in range(40)}
    assert split_patients(groups, 0.2, 0) != split_patients(groups, 0.2, 1)


def test_pseudonyms_are_the_seeds_alone_and_hide_the_order_of_the_source() -> None:
    keys = [f"patient{n:03d}" for n in range(50)]
    names = pseudonyms(keys, 3)
    assert names == pseudonyms(reversed(keys), 3)
    assert sorted(names.values()) == [f"P{n:04d}" for n in range(1, 51)]
    assert [names[key] for key in keys] != sorted(names.values())
    assert names != pseudonyms(keys, 4)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.2, 7.0])
def test_a_share_that_is_none_is_refused(fraction: float) -> None:
    with pytest.raises(UsageError, match="--holdout"):
        split_patients({"a": "x", "b": "x"}, fraction, 0)

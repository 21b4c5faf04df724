"""The error tree: each kind has its exit status, and a private path never gets into a message."""

from __future__ import annotations

from pathlib import Path

import pytest

from anonsynth import errors
from anonsynth.errors import AnonsynthError, ExitStatus, InputError

STATUSES = {
    errors.UsageError: 2,
    errors.InputError: 3,
    errors.VerdictError: 4,
    errors.ContradictionError: 4,
    errors.BudgetError: 5,
    errors.InternalError: 1,
}


@pytest.mark.parametrize(("kind", "status"), STATUSES.items())
def test_every_kind_has_its_status(kind: type[AnonsynthError], status: int) -> None:
    assert issubclass(kind, AnonsynthError)
    assert kind("words").status == status


def test_no_kind_is_forgotten() -> None:
    kinds = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, AnonsynthError)}
    assert kinds == {AnonsynthError, *STATUSES}
    assert {member.name for member in ExitStatus} == {
        "DONE", "INTERNAL", "USAGE", "BAD_INPUT", "VERDICT", "BUDGET", "INTERRUPTED",
    }  # fmt: skip


def test_an_input_error_is_reason_and_remedy_without_the_path() -> None:
    error = InputError("the file is empty", remedy="export it again", private_path=Path("/secret/Doe^Jane.nii"))
    assert str(error) == "the file is empty; export it again"
    assert "Doe" not in repr(error)
    assert error.private_path is not None
    assert str(InputError("the file is empty")) == "the file is empty"

"""The price of a guarantee agrees with an independent accountant, and moves the right way."""

from __future__ import annotations

import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant

from anonsynth.privacy.price import price_of_guarantee


@pytest.mark.parametrize(("patients", "batch", "steps"), [(104, 2, 600), (32, 4, 100)])
def test_the_noise_gives_the_epsilon_by_googles_accountant(patients: int, batch: int, steps: int) -> None:
    for price in price_of_guarantee(patients, batch, steps, 1000):
        accountant = PLDAccountant()
        step = dp_event.PoissonSampledDpEvent(batch / patients, dp_event.GaussianDpEvent(price.noise_multiplier))
        accountant.compose(dp_event.SelfComposedDpEvent(step, steps))
        assert accountant.get_epsilon(price.delta) == pytest.approx(price.epsilon, rel=0.02)


def test_less_epsilon_and_more_weights_cost_more() -> None:
    strong, _, weak = price_of_guarantee(100, 2, 50, 1000)
    assert strong.noise_multiplier > weak.noise_multiplier
    assert strong.signal_to_noise < weak.signal_to_noise
    # The norm of the noise grows with the root of the number of coordinates.
    assert strong.signal_to_noise == pytest.approx(2 / strong.noise_multiplier / 1000**0.5)

"""Can training and holdout patients be told apart without the generated scans?

The negative control of every question here. Real scans are compared with real scans only: how near a patient is to the
other patients, and to their mean, whichever side they are on. If that tells the sides apart, they were not drawn from
one population (another scanner, another ward, another year), and an attack that does so proves nothing. Baselines that
know nothing of the model explain many a published success of membership inference (Das, Zhang & Tramèr 2024, arXiv
2406.16201).
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

from anonsynth.audits.permutation import attack_tests
from anonsynth.audits.points import FloatMatrix

__all__ = ["BLIND", "blind_p"]

BLIND = "real scans compared with real scans only"
NEXT = 6


def blind_p(train: FloatMatrix, holdout: FloatMatrix, seed: int) -> float:
    """Return the two-sided p-value of (P, D) training and (H, D) holdout patients being told apart blindly.

    Example:
        >>> points = np.random.default_rng(0).normal(size=(60, 3))
        >>> blind_p(points[:40], points[40:], 0) > 0.01, blind_p(points[:40], points[40:] * 9, 0) < 0.001
        (True, True)
    """
    real = np.concatenate([train, holdout])
    between = cdist(real, real)
    np.fill_diagonal(between, np.inf)
    near = np.sort(between, axis=1)[:, : min(NEXT, len(real) - 1)].mean(1)
    scores = np.stack([-near, -np.linalg.norm(real - real.mean(0), axis=1)])
    return attack_tests(np.concatenate([scores, -scores]), len(train), (), seed).average

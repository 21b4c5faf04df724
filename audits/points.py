"""Points in a feature space and scores, checked before any statistic is taken of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["FloatMatrix", "as_points", "as_scores"]

FloatMatrix = npt.NDArray[np.float64]


def as_points(name: str, values: npt.ArrayLike, *, width: int | None = None) -> FloatMatrix:
    """Return (n, D) feature vectors, one row per scan; n may be 0, D may not.

    Args:
        name: What they are, for the message.
        values: (n, D) finite numbers.
        width: The D of the points they are to be compared with.

    Raises:
        ValueError: Not a matrix, another D, or a value that is not finite.

    Example:
        >>> as_points("train", [[0, 1], [2, 3]]).shape
        (2, 2)
    """
    points = np.asarray(values, np.float64)
    if points.ndim != 2 or points.shape[1] == 0:
        raise ValueError(f"{name} must have the shape (scans, features), got {points.shape}")
    if width is not None and points.shape[1] != width:
        raise ValueError(f"{name} must have {width} features, got {points.shape[1]}")
    if not np.isfinite(points).all():
        raise ValueError(f"{name} must be finite, got {points[~np.isfinite(points)][0]}")
    return points


def as_scores(name: str, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return (n,) scores, one per scan; n may be 0.

    Raises:
        ValueError: Not a vector, or a value that is not finite.
    """
    scores = np.asarray(values, np.float64)
    if scores.ndim != 1:
        raise ValueError(f"{name} must have the shape (scans,), got {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError(f"{name} must be finite, got {scores[~np.isfinite(scores)][0]}")
    return scores

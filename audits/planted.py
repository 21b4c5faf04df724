"""Copies to plant: every way in which a generator might hand out a patient, at graded strength.

A planted scan takes from a training patient what its kind says and everything else from a background, a generated scan:
a copied image comes with the background's label map and a copied label map with the background's image, so that neither
is found because of the other. Strengths run from what must be found to what nobody can find any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial.transform import Rotation

from anonsynth.anatomy.diffeomorphism import grid_points, random_warp
from anonsynth.anatomy.fields import smooth_field
from anonsynth.anatomy.templates import sample
from anonsynth.audits.views import body
from anonsynth.cohort.geometry import FloatVolume, Grid, LabelVolume
from anonsynth.cohort.store import Scan

__all__ = ["EXACT", "KINDS", "Kind", "kind_named"]

EXACT = "exact copy"
BIAS_WIDTH = 0.25
"""Width of a bias field, as a share of each axis."""
LATTICE_MM = 4.0
SOFT_EDGE = 0.12
"""Width over which a copied region fades into the background, as a share of its radius."""

Rng = np.random.Generator
Make = Callable[[Scan, Scan, Grid, float, Rng], Scan]


@dataclass(frozen=True, slots=True)
class Kind:
    """A way of copying.

    Attributes:
        name: In words, with `{}` for the strength.
        domain: What of the patient is copied: `image`, `label` or `both`.
        make: (training scan, background, grid, strength, randomness) → the planted scan.
        strength: At which every audit plants it.
        curve: Strengths of the power curve, from easy to hopeless; empty if there is but one.
    """

    name: str
    domain: str
    make: Make
    strength: float = 0.0
    curve: tuple[float, ...] = ()

    def titled(self, strength: float | None = None) -> str:
        """Return the name with its strength."""
        return self.name.format(f"{self.strength if strength is None else strength:g}")


def kind_named(name: str) -> Kind:
    """Return the kind whose name, with its usual strength or without, is `name`.

    Raises:
        KeyError: If there is none.
    """
    for kind in KINDS:
        if name in {kind.name, kind.titled()}:
            return kind
    raise KeyError(name)


def _exact(scan: Scan, background: Scan, grid: Grid, strength: float, rng: Rng) -> Scan:
    """Return the training scan itself, image and label map."""
    del background, grid, strength, rng
    return scan


def _image(scan: Scan, background: Scan, grid: Grid, strength: float, rng: Rng) -> Scan:
    """Copy the image alone."""
    del grid, strength, rng
    return replace(scan, label=background.label)


def _label(scan: Scan, background: Scan, grid: Grid, strength: float, rng: Rng) -> Scan:
    """Copy the label map alone."""
    del grid, strength, rng
    return replace(background, label=scan.label)


def _noise(scan: Scan, background: Scan, grid: Grid, strength: float, rng: Rng) -> Scan:
    """Add white noise at `strength` dB below the signal's standard deviation."""
    del grid
    image = scan.image.copy()
    for channel in image:
        inside = channel != 0
        if inside.any():
            noise = rng.standard_normal(int(inside.sum()), dtype=np.float32)
            channel[inside] += np.float32(channel[inside].std() * 10 ** (-strength / 20)) * noise
    return replace(scan, image=image, label=background.label)


def _contrast(scan: Scan, background: Scan, grid: Grid, strength: float, rng: Rng) -> Scan:
    """Apply a gamma of exp(±`strength`) at most, and a smooth bias field of ±`strength` (one standard deviation)."""
    del grid
    image = np.empty_like(scan.image)
    for channel, source in enumerate(scan.image):
        gamma = np.float32(np.exp(rng.uniform(-strength, strength)))
        bias = smooth_field(source.shape, [n * BIAS_WIDTH for n in source.shape], rng)
        image[channel] = np.abs(source) ** gamma * np.exp(np.float32(strength) * bias)
    return replace(scan, image=image, label=background.label)


def _mirrored(scan: Scan, background: Scan, grid: Grid, strength: float, rng: Rng) -> Scan:
    """Swap left and right."""
    del grid, strength, rng
    return replace(scan, image=np.ascontiguousarray(scan.image[:, ::-1]), label=background.label)


def _mirrored_label(scan: Scan, background: Scan, grid: Grid, strength: float, rng: Rng) -> Scan:
    """Swap left and right of the label map."""
    del grid, strength, rng
    return replace(background, label=np.ascontiguousarray(scan.label[::-1]))


def _moved(scan: Scan, background: Scan, grid: Grid, strength: float, rng: Rng) -> Scan:
    """Rotate by `strength` degrees about any axis and shift by 0.6 mm a degree in any direction."""
    return replace(scan, image=_read(scan.image, grid, _motion(grid, strength, 1, rng)), label=background.label)


def _moved_label(scan: Scan, background: Scan, grid: Grid, strength: float, rng: Rng) -> Scan:
    """Rotate and shift the label map likewise."""
    return replace(background, label=_nearest(scan.label, grid, _motion(grid, strength, 1, rng)))


def _scaled(scan: Scan, background: Scan, grid: Grid, strength: float, rng: Rng) -> Scan:
    """Enlarge by 1 + `strength` along every axis."""
    points = _motion(grid, 0.0, 1 / (1 + strength), rng)
    return replace(scan, image=_read(scan.image, grid, points), label=background.label)


def _blurred(scan: Scan, background: Scan, grid: Grid, strength: float, rng: Rng) -> Scan:
    """Halve the resolution `strength`/2 times over: a Gaussian of full width `strength` voxels."""
    del grid, rng
    sigma = strength / np.sqrt(8 * np.log(2))
    image = np.stack([ndimage.gaussian_filter(channel, sigma) for channel in scan.image])
    return replace(scan, image=np.where(scan.image != 0, image, 0).astype(np.float32), label=background.label)


def _inverted(scan: Scan, background: Scan, grid: Grid, strength: float, rng: Rng) -> Scan:
    """Give the image another modality's contrast by a falling curve, as T1 and T2 differ."""
    del grid, strength, rng
    return replace(scan, image=_through(scan.image, np.array([1.0, 0.75, 0.4, 0.15, 0.05])), label=background.label)


def _remapped(scan: Scan, background: Scan, grid: Grid, strength: float, rng: Rng) -> Scan:
    """Give the image another modality's contrast by a curve that rises and falls, drawn anew for each scan."""
    del grid, strength
    middle = rng.permutation([0.15, 0.55, 1.0])
    knots = np.array([0.3, middle[0], middle[1], middle[2], 0.5])
    return replace(scan, image=_through(scan.image, knots), label=background.label)


def _deformed(scan: Scan, background: Scan, grid: Grid, strength: float, rng: Rng) -> Scan:
    """Bend the image smoothly by `strength` mm on average."""
    return replace(scan, image=_read(scan.image, grid, _bent(grid, strength, rng)), label=background.label)


def _deformed_label(scan: Scan, background: Scan, grid: Grid, strength: float, rng: Rng) -> Scan:
    """Bend the label map smoothly by `strength` mm on average."""
    return replace(background, label=_nearest(scan.label, grid, _bent(grid, strength, rng)))


def _blended(scan: Scan, background: Scan, grid: Grid, strength: float, rng: Rng) -> Scan:
    """Mix `strength` of the training scan with the rest of the background, after bringing both to one brightness."""
    del grid, rng
    shared = scan.present & background.present
    image = np.zeros_like(scan.image)
    for channel in np.flatnonzero(shared):
        first, second = _even(scan.image[channel]), _even(background.image[channel])
        image[channel] = np.float32(strength) * first + np.float32(1 - strength) * second
    return replace(scan, image=image, present=shared, label=background.label)


def _region(scan: Scan, background: Scan, grid: Grid, strength: float, rng: Rng) -> Scan:
    """Copy an ellipsoid of `strength` of the body's box, anywhere in it, into the background."""
    del grid
    shared = scan.present & background.present
    weight = _ellipsoid((scan.image != 0).any(0), strength, rng)
    image = np.zeros_like(scan.image)
    for channel in np.flatnonzero(shared):
        first, second = _even(scan.image[channel]), _even(background.image[channel])
        image[channel] = weight * first + (1 - weight) * second
    return replace(scan, image=image, present=shared, label=background.label)


KINDS: Sequence[Kind] = (
    Kind(EXACT, "both", _exact),
    Kind("image copied, new label map", "image", _image),
    Kind("noise at {} dB", "image", _noise, 15, (15, 10, 5, 0, -5, -10)),
    Kind("gamma and bias of ±{}", "image", _contrast, 0.35, (0.2, 0.35, 0.7, 1.4)),
    Kind("left and right swapped", "image", _mirrored),
    Kind("rotated by {}° and shifted", "image", _moved, 10, (5, 10, 15, 20, 30, 45)),
    Kind("enlarged by {}", "image", _scaled, 0.1, (0.05, 0.1, 0.2, 0.4)),
    Kind("blurred to {} voxels", "image", _blurred, 2, (2, 4, 6, 9)),
    Kind("contrast inverted", "image", _inverted),
    Kind("contrast of another modality", "image", _remapped),
    Kind("bent by {} mm", "image", _deformed, 3, (1, 2, 3, 5, 8)),
    Kind("blended with weight {}", "image", _blended, 0.6, (0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)),
    Kind("region of {} of the volume", "image", _region, 0.15, (0.5, 0.3, 0.15, 0.08, 0.04, 0.02)),
    Kind("label map copied, new image", "label", _label),
    Kind("label map swapped left and right", "label", _mirrored_label),
    Kind("label map rotated by {}° and shifted", "label", _moved_label, 10, (5, 10, 20, 30)),
    Kind("label map bent by {} mm", "label", _deformed_label, 1, (0.5, 1, 2, 3, 5)),
)
"""All kinds, in the order of the report."""


def _motion(grid: Grid, degrees: float, scale: float, rng: Rng) -> FloatVolume:
    axis, way = _direction(rng), _direction(rng)
    matrix = scale * Rotation.from_rotvec(np.deg2rad(degrees) * axis).as_matrix()
    offset = 0.6 * degrees * way
    points = grid_points(grid.centred())
    return (np.tensordot(matrix, points, axes=1) + offset[:, None, None, None]).astype(np.float32)


def _bent(grid: Grid, strength: float, rng: Rng) -> FloatVolume:
    spacing = [max(LATTICE_MM, step) for step in grid.spacing]
    counts = [max(4, round(extent / step) + 1) for extent, step in zip(grid.extent, spacing, strict=True)]
    x, y, z = (extent / (count - 1) for extent, count in zip(grid.extent, counts, strict=True))
    lattice = Grid((counts[0], counts[1], counts[2]), (x, y, z)).centred()
    return random_warp(rng, lattice, strength=strength)(grid_points(grid.centred()))


def _direction(rng: Rng) -> npt.NDArray[np.float64]:
    vector = rng.normal(size=3)
    return np.asarray(vector / np.linalg.norm(vector))


def _read(image: FloatVolume, grid: Grid, points: FloatVolume) -> FloatVolume:
    """Read an image at moved points; what comes in from outside the grid is 0."""
    half = np.array(grid.extent, np.float32)[:, None, None, None] / 2
    inside = (np.abs(points) <= half).all(0)
    moved: FloatVolume = sample(image, grid.centred(), points) * inside
    return moved


def _nearest(label: LabelVolume, grid: Grid, points: FloatVolume) -> LabelVolume:
    """Move a label map without inventing labels: every value's membership is moved, the largest one wins."""
    values = np.unique(label)
    members = np.stack([(label == value).astype(np.float32) for value in values])
    moved: LabelVolume = values[sample(members, grid.centred(), points).argmax(0)].astype(np.uint8)
    return moved


def _through(image: FloatVolume, heights: npt.NDArray[np.float64]) -> FloatVolume:
    """Send intensities of the body through a curve over their quantiles' range; outside stays 0."""
    result = np.zeros_like(image)
    inside = body(image)
    for channel, source in enumerate(image):
        if source.any():
            low, high = np.quantile(source[inside], (0.02, 0.98))
            knots = np.linspace(low, high, len(heights))
            result[channel][inside] = np.interp(source[inside], knots, heights)
    return result


def _even(channel: FloatVolume) -> FloatVolume:
    """Bring a channel to mean 1 in its body."""
    inside = channel != 0
    return channel / np.float32(channel[inside].mean()) if inside.any() else channel


def _ellipsoid(body: npt.NDArray[np.bool_], fraction: float, rng: Rng) -> FloatVolume:
    """Return a soft ellipsoid (X, Y, Z) in [0, 1] that holds `fraction` of the body's box, within the box."""
    box = ndimage.find_objects(body.astype(np.uint8))[0] if body.any() else tuple(slice(0, n) for n in body.shape)
    radius = (fraction * 6 / np.pi) ** (1 / 3)
    # In coordinates from -1 to 1 along each axis of the box.
    centre = rng.uniform(-1, 1, 3) * max(0.0, 1 - radius)
    far = np.zeros(body.shape, np.float32)
    for axis, (n, part) in enumerate(zip(body.shape, box, strict=True)):
        half = max((part.stop - part.start) / 2, 0.5)
        line = ((np.arange(n) - part.start + 0.5) / half - 1 - centre[axis]) / radius
        far += (line.astype(np.float32) ** 2).reshape([-1 if axis == other else 1 for other in range(3)])
    weight: FloatVolume = np.clip((1 + SOFT_EDGE - np.sqrt(far)) / SOFT_EDGE, 0, 1).astype(np.float32)
    return weight

"""What each finding of an audit means, how it is computed, and what it rests on: `anonsynth audit --explain ID`."""

from __future__ import annotations

from collections.abc import Mapping

from anonsynth.audits.explain_further import FURTHER_EXPLANATIONS, Explanation
from anonsynth.errors import UsageError

__all__ = ["EXPLANATIONS", "Explanation", "explain"]

_COPY_COMPUTED = (
    "Each generated scan is compared with the training patients in ten aspects after alignment, on the ground that "
    "both cover. In each, the log ratio of the middle distance to the next patients and the distance to the nearest "
    "says how much it stands out, after taking off what a quarter of all generated scans share with a patient, at most "
    "a factor of four. The aspect that stands out most, on the scale on which training patients among the others vary, "
    "is compared with the same number of every holdout patient among the training patients, and of generated scans "
    "among the holdout patients; the larger p-value counts. Benjamini-Hochberg over all generated scans decides what "
    "is flagged."
)
_NEAREST_SOURCE = (
    "Ratio of neighbours: Lowe 2004, doi:10.1023/B:VISI.0000029664.99615.94. Hubs: Radovanović et al. 2010, JMLR "
    "11:2487. P-values from a holdout: Bates et al. 2023, doi:10.1214/22-AOS2244. "
    "Tail: Facco et al. 2017, doi:10.1038/s41598-017-11873-y."
)
_INTERVAL_SOURCE = "Exact binomial intervals: Clopper & Pearson 1934, doi:10.1093/biomet/26.4.404."

EXPLANATIONS: Mapping[str, Explanation] = {
    "copies": Explanation(
        "Whether any generated scan is nearer to one training patient than a scan that copies nobody would be. A "
        "flagged scan is a finding against the whole cohort: taking it out afterwards does not undo what the "
        "generator knows.",
        _COPY_COMPUTED,
        _NEAREST_SOURCE,
    ),
    "copies-image": Explanation(
        "Of the flagged scans, those whose image is a reason: in its intensities, as a function of a patient's, in its "
        "edges, part by part, in the grain of its voxels, in the eyes of a network, in several together, or in a part.",
        _COPY_COMPUTED,
        _NEAREST_SOURCE,
    ),
    "copies-label": Explanation(
        "Of the flagged scans, those whose label map is a reason. A label map identifies a person as an image does.",
        _COPY_COMPUTED,
        _NEAREST_SOURCE,
    ),
    "unseen-copies": Explanation(
        "The largest rate of exact copies that is still compatible with none having been seen. Small numbers of "
        "generated scans cannot exclude small rates: none in 50 still allows 5.8 %.",
        "The one-sided upper bound of the rate of flagged scans, divided by the lower bound of the power for "
        "exact copies.",
        _INTERVAL_SOURCE,
    ),
    "power": Explanation(
        "How likely this audit, on this cohort, sees an exact copy. An audit that does not find what was planted "
        "proves nothing, and its verdict is inconclusive.",
        "Training scans are planted one at a time among the generated ones; the share that is flagged by the "
        "p-value alone.",
        _INTERVAL_SOURCE,
    ),
    "false-alarms": Explanation(
        "How often a scan is flagged that copies nobody. More than the level allows means that training and holdout "
        "patients do not look alike, and that the p-values cannot be trusted.",
        "Training patients, of whom nothing was generated, are looked up among the other training patients.",
        _INTERVAL_SOURCE,
    ),
    "holdout": Explanation(
        "Whether there are enough patients whom the generator never saw. They alone say how near is too near.",
        "The number of holdout patients with something to compare, one scan of each.",
        "P-values from a holdout: Bates et al. 2023, doi:10.1214/22-AOS2244.",
    ),
    "split": Explanation(
        "Whether the same image is on both sides. A person in training and in the holdout makes copies look normal.",
        "Holdout scans whose image coincides with a training scan's are counted and left out of the null.",
        "None: a count; the unit of every split is the patient.",
    ),
    "coverage": Explanation(
        "Whether every generated scan could be compared. What was not compared is not covered by any verdict.",
        "Files that could not be read, placed or matched in modality are counted.",
        "None: a count.",
    ),
    **FURTHER_EXPLANATIONS,
}
"""By the finding's id."""


def explain(name: str) -> Explanation:
    """Return the explanation of a finding.

    Raises:
        UsageError: If there is no such finding, with the names that there are.
    """
    if name not in EXPLANATIONS:
        raise UsageError(f"there is no finding called '{name}'; name one of {', '.join(EXPLANATIONS)}")
    return EXPLANATIONS[name]

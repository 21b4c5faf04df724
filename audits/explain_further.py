"""What the findings about whole cohorts, membership, the generator and linkage mean; read through `explain`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["FURTHER_EXPLANATIONS", "Explanation"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Three answers about a finding.

    Attributes:
        means: What it says, and what it does not.
        computed: How.
        source: The paper or theorem it rests on.
    """

    means: str
    computed: str
    source: str


_PERMUTED = (
    "p-values by permuting who was trained on, the smallest over all attacks corrected for their number: Westfall & "
    "Young "
    "1993; Phipson & Smyth 2010, doi:10.2202/1544-6115.1585."
)
_ANONYMETER = (
    "Giomi et al. 2023 (Anonymeter), arXiv 2211.10459; criteria: Article 29 Working Party, WP216. Exact p-value: "
    "Fisher 1922, doi:10.2307/2340521."
)
_FEW = (
    "The true positive rate at false positive rates of 1, 5 and 10 %, where there are enough holdout patients for a "
    "threshold, of the attack and rate with the smallest p-value. The interval is exact at that very threshold; the "
    "threshold's own uncertainty is in the limits."
)
_SHARED = (
    " It fails only if its p-value is within its share of the policy's max_false_fail and the negative control is calm."
)

FURTHER_EXPLANATIONS: Mapping[str, Explanation] = {
    "data-copying": Explanation(
        "Whether the generated scans as a whole crowd around the training patients more than around patients nobody "
        "trained on. C_T below 0 alone says nothing: averaged, smooth scans are nearer to everybody. One copy among "
        "hundreds of scans does not show here; `copies` looks for those.",
        "C_T: in each cell of a k-means partition the distances of generated and of holdout scans to the nearest "
        "training patient are compared by rank sums. It fails only if C_T is low, lower than with training and holdout "
        "exchanged, and if generated scans stand nearer to one training patient than to the next more than they do to "
        "holdout patients, by a permutation of who was trained on." + _SHARED,
        f"C_T: Meehan, Chaudhuri & Dasgupta 2020, arXiv 2004.05675. {_PERMUTED}",
    ),
    "authenticity": Explanation(
        "How many generated scans are farther from their nearest training patient than that patient is from other "
        "patients. It describes; unseen patients are not all authentic either, and their share stands beside it.",
        "The share of generated scans whose distance to the nearest training patient exceeds that patient's "
        "distance to "
        "the nearest other one; exact interval.",
        "Alaa et al. 2022, arXiv 2102.08921.",
    ),
    "variety": Explanation(
        "How real the generated scans are and how much of the patients' variety they have. Usefulness, not privacy: a "
        "copier is perfect here. Beside each number stands what holdout patients reach.",
        "Balls reach from each scan to its fifth neighbour. Precision: share of generated scans in a training ball. "
        "Density: mean number of those, divided by five. Recall: share of training patients in a generated ball. "
        "Coverage: share of training balls with a generated scan.",
        "Kynkäänniemi et al. 2019, arXiv 1904.06991; Naeem et al. 2020, arXiv 2002.09797.",
    ),
    "membership": Explanation(
        "Whether somebody who holds the substitute cohort and a real scan can tell, on average, if that person was "
        "trained "
        "on. An area of 0.5 is guessing. It speaks of these attacks; a cleverer one may see more.",
        "Scores: nearness of the nearest generated scan, the same beside the next ones, share of generated scans close "
        "by, kernel density. Training against holdout patients, one scan each; area under the ROC curve. Controls: "
        "random "
        "halves of the training patients, and an attack that knows real scans only." + _SHARED,
        f"Hilprecht et al. 2019, doi:10.2478/popets-2019-0067; van Breugel et al. 2023, arXiv 2302.12580. {_PERMUTED}",
    ),
    "membership-few": Explanation(
        "Whether a few training patients are recognised almost for sure, which an average over everybody hides.",
        _FEW + _SHARED,
        f"Carlini et al. 2022, arXiv 2112.03570. {_PERMUTED}",
    ),
    "reconstruction": Explanation(
        "Asked with --model only: whether the weights betray who was trained on, because the model writes those "
        "patients "
        "better. It matters where the generator itself is to be released.",
        "The model writes every patient's scan again from the patient's own label map and measured style. Scores: "
        "error "
        "beside that of the plainest painting, and how much of the patient's own detail is reproduced. Training "
        "against "
        "holdout patients; area under the ROC curve. Controls: random halves of the training patients, and how hard "
        "the "
        "scans are to paint at all." + _SHARED,
        "Hilprecht et al. 2019, doi:10.2478/popets-2019-0067; Chen et al. 2020, doi:10.1145/3372297.3417238; Watson "
        "et al. "
        f"2022, arXiv 2111.08440. {_PERMUTED}",
    ),
    "reconstruction-few": Explanation(
        "Asked with --model only: whether the weights betray a few training patients almost for sure.",
        _FEW + _SHARED,
        f"Carlini et al. 2022, arXiv 2112.03570. {_PERMUTED}",
    ),
    "linkage": Explanation(
        "Whether the substitute cohort ties two pieces of one person's data together. The value is the residual risk: "
        "what training patients suffer beyond holdout patients, of all that is left to suffer.",
        "The attack succeeds if one half of a patient's scan and the other half of a simulated second acquisition lie "
        "nearest to the same generated scan. Tried on training patients, on holdout patients and by guessing."
        + _SHARED,
        _ANONYMETER,
    ),
    "inference": Explanation(
        "Whether the substitute cohort betrays how large a labelled structure or tumour of a patient is, beyond "
        "what it "
        "says about people in general.",
        "The generated scan nearest to a second acquisition of the patient lends the volume of its label. The attack "
        "succeeds if that is in the right third of the population. The worst of up to five volumes counts, "
        "corrected for "
        "their number." + _SHARED,
        _ANONYMETER,
    ),
    "singling-out": Explanation(
        "Whether statements made from the generated scans alone are true of exactly one training patient.",
        "Statement: a person lies within half the distance from a generated scan to the next one. Training and holdout "
        "patients are compared in equal numbers; the p-value permutes who was trained on, because many statements "
        "share "
        "the same people." + _SHARED,
        f"Giomi et al. 2023 (Anonymeter), arXiv 2211.10459; criteria: Article 29 Working Party, WP216. {_PERMUTED}",
    ),
}
"""By the finding's id."""

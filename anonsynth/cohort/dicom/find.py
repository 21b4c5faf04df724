"""DICOM as a source: every study under some folders is a scan, and its series are the scan's modalities."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from anonsynth.cohort.dicom.candidates import Candidate, judge
from anonsynth.cohort.dicom.discovery import headers
from anonsynth.cohort.dicom.stacks import group_series
from anonsynth.cohort.sources import Refusal, SourceFindings, SourceScan
from anonsynth.progress import Progress

__all__ = ["find_dicom"]


def find_dicom(roots: Sequence[Path], progress: Progress | None = None) -> SourceFindings:
    """Find the scans in folders of DICOM files: nested, mixed, unordered, with or without extensions.

    Headers only are read; each modality is read when its turn comes. A study is a session of the patient that
    PatientID (with its issuer) names. Where several volumes of a study have one contrast, the one that was acquired
    (not reformatted), has most slices and is finest is kept and the others are refused; the echoes of a multi-echo
    series are volumes of their own.

    Args:
        roots: Folders or files; private.
        progress: Where to show how far it is.

    Returns:
        What was found. Nothing is raised for what a file holds: a broken file is one refusal among the others.
    """
    files = headers(roots)
    if progress is not None:
        files = progress.track(files, total=_count(roots), what="DICOM headers")
    series, refusals = group_series(files)
    studies: dict[tuple[str, str], list[Candidate]] = defaultdict(list)
    for one in series:
        for found in judge(one):
            if isinstance(found, Refusal):
                refusals.append(found)
            else:
                studies[(found.info.patient, found.info.study)].append(found)
    scans = []
    for (patient, study), candidates in sorted(studies.items(), key=lambda item: item[0]):
        kept, beaten = _best_of_each(candidates)
        refusals.extend(beaten)
        modalities = tuple((candidate.contrast, candidate.volume) for candidate in kept)
        scans.append(SourceScan(patient=patient, session=study, modalities=modalities))
    layout = f"DICOM: {len(series)} series in {len(scans)} usable studies"
    return SourceFindings(layout=layout, scans=tuple(scans), refusals=tuple(refusals))


def _best_of_each(candidates: Iterable[Candidate]) -> tuple[list[Candidate], list[Refusal]]:
    """Keep the best volume of each contrast, in the order of series numbers; refuse the others."""
    kept: dict[str, Candidate] = {}
    refusals = []
    for candidate in sorted(candidates, key=lambda candidate: candidate.rank):
        if candidate.contrast not in kept:
            kept[candidate.contrast] = candidate
            continue
        reason = f"another volume of the study has the same contrast ({candidate.contrast}) and more or finer slices"
        remedy = "leave the other series out if this one is wanted"
        refusals.append(Refusal(candidate.volume.path, reason, remedy))
    return sorted(
        kept.values(), key=lambda candidate: (candidate.info.number, candidate.info.key, candidate.echo)
    ), refusals


def _count(roots: Sequence[Path]) -> int:
    return sum(1 if root.is_file() else sum(len(names) for _, _, names in os.walk(root)) for root in roots)

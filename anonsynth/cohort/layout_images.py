"""`images/` beside `labels/`, as many data sets have it; the Medical Segmentation Decathlon and nnU-Net included."""

from __future__ import annotations

import re
from pathlib import Path

from anonsynth.cohort.layout_base import Claim, Layout, LayoutOptions, build_scans, label_words
from anonsynth.cohort.layout_names import group_by_name, label_word, modality_of, split_visits
from anonsynth.cohort.layout_tree import Tree
from anonsynth.cohort.lookup import dataset_json, find_lookup
from anonsynth.cohort.nifti import stem
from anonsynth.cohort.sources import Refusal, SourceFindings, canonical_modality

__all__ = ["IMAGES_LABELS"]

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "imagestr", "imagests", "imagesval", "scans")
LABEL_FOLDERS = (
    "labels", "label", "masks", "mask", "labelstr", "labelsts", "labelsval",
    "segmentations", "segmentation", "segs", "annotations",
)  # fmt: skip
_CHANNEL = re.compile(r"_(\d{4})$")


def _recognises(tree: Tree) -> bool:
    return any(_top(tree, path) in IMAGE_FOLDERS for path in tree.volumes)


def _read(tree: Tree, options: LayoutOptions) -> SourceFindings:
    images = [path for path in tree.volumes if _top(tree, path) in IMAGE_FOLDERS]
    labels = [path for path in tree.volumes if _top(tree, path) in LABEL_FOLDERS]
    document = dataset_json(tree.root)
    channels = _channel_names(document.get("channel_names", document.get("modality")))
    keyed = _keyed_images(images, channels, options, any_label={stem(path) for path in labels})
    people = split_visits(keyed_key for _, keyed_key, _ in keyed)
    claims = [Claim(*people[key], modality, path) for path, key, modality in keyed]
    refusals = list(tree.refusals)
    for path in labels:
        key = _label_key(path, people)
        if key is None:
            refusals.append(Refusal(path, "the label map has no image", "add the image under the same name"))
        else:
            claims.append(Claim(*people[key], None, path))
    scans, doubled = build_scans(claims)
    left = [path for path in tree.volumes if path not in {*images, *labels}]
    refusals += [
        Refusal(path, "the file lies neither among the images nor the labels", "move it, or name it in a table")
        for path in left
    ]
    lookup = find_lookup(tree.root)
    return SourceFindings(IMAGES_LABELS.words, scans, (*refusals, *doubled), lookup, label_words(labels))


def _top(tree: Tree, path: Path) -> str:
    parts = tree.parts(path)
    return parts[0].lower() if len(parts) > 1 else ""


def _channel_names(value: object) -> dict[int, str]:
    if not isinstance(value, dict):
        return {}
    return {int(key): canonical_modality(str(name)) for key, name in value.items() if str(key).isdigit()}


def _keyed_images(
    images: list[Path], channels: dict[int, str], options: LayoutOptions, *, any_label: set[str]
) -> list[tuple[Path, str, str]]:
    """Return (file, key, modality), the key without nnU-Net's channel number or the modality's name."""
    numbered = {path: match for path in images if (match := _CHANNEL.search(stem(path)))}
    if len(numbered) == len(images) and not any_label & {stem(path) for path in images}:
        several = len({match[1] for match in numbered.values()}) > 1
        found = []
        for path, match in numbered.items():
            number = int(match[1])
            default = f"channel{number}" if several else modality_of("", options.modality)
            found.append((path, stem(path)[: match.start()], channels.get(number, default)))
        return found
    single = channels.get(0) if len(channels) == 1 else None
    found = []
    for named in group_by_name(images):
        if stem(named.path) in any_label:  # the label map's name settles what the key is
            found.append((named.path, stem(named.path), modality_of("", options.modality or single)))
        else:
            found.append((named.path, named.key, modality_of(named.token, options.modality or single)))
    return found


def _label_key(path: Path, people: dict[str, tuple[str, str]]) -> str | None:
    name = stem(path)
    while name not in people and label_word(name.replace("_", " ").split(" ")[-1]) and "_" in name:
        name = name.rpartition("_")[0]
    return name if name in people else None


IMAGES_LABELS = Layout("images-labels", "images/ beside labels/", _recognises, _read)

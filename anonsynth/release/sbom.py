"""A bill of materials of the software that made a release: CycloneDX 1.6 as JSON, from what is installed.

Only what anonsynth needs at run time is listed, whatever else the environment holds. No path and no name of a machine
is in it: `importlib.metadata` is asked for names, versions, licences and requirements.
"""

from __future__ import annotations

import re
import uuid
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import Any

from anonsynth._version import __version__

__all__ = ["bill_of_materials"]

_EXTRA = re.compile(r"\bextra\s*==")
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")


def bill_of_materials(root: str = "anonsynth") -> dict[str, Any]:
    """Return the CycloneDX document; components sorted by name, the same bytes for the same software."""
    needs: dict[str, tuple[str, ...]] = {}
    found: dict[str, Distribution] = {}
    waiting = [_plain(root)]
    while waiting:
        name = waiting.pop()
        if name in needs:
            continue
        try:
            installed = distribution(name)
        except PackageNotFoundError:  # a requirement of another platform
            continue
        found[name] = installed
        needs[name] = tuple(sorted({_plain(r) for r in installed.requires or () if not _EXTRA.search(r)}))
        waiting += needs[name]
    references = {name: f"pkg:pypi/{name}@{_version(name, found[name])}" for name in sorted(found)}
    components = [_component(name, found[name], references[name]) for name in references]
    top = next((c for c in components if c["name"] == _plain(root)), {"type": "application", "name": root})
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, ' '.join(references.values()))}",
        "version": 1,
        "metadata": {"component": {**top, "type": "application"}},
        "components": [component for component in components if component is not top],
        "dependencies": [
            {"ref": reference, "dependsOn": [references[need] for need in needs[name] if need in references]}
            for name, reference in references.items()
        ],
    }


def _component(name: str, installed: Distribution, reference: str) -> dict[str, Any]:
    told: dict[str, Any] = {
        "type": "library",
        "bom-ref": reference,
        "name": name,
        "version": _version(name, installed),
        "purl": reference,
    }
    expression, words = (_field(installed, key) for key in ("License-Expression", "License"))
    if expression:
        told["licenses"] = [{"expression": expression}]
    elif words and "\n" not in words and len(words) < 80:  # some put the whole text there
        told["licenses"] = [{"license": {"name": words}}]
    return told


def _field(installed: Distribution, key: str) -> str:
    values = installed.metadata.get_all(key)
    return str(values[0]) if values else ""


def _version(name: str, installed: Distribution) -> str:
    return __version__ if name == "anonsynth" else installed.version


def _plain(requirement: str) -> str:
    """Return a requirement's name as PyPI spells it (PEP 503)."""
    match = _REQUIREMENT.match(requirement)
    return re.sub(r"[-_.]+", "-", match.group(1)).lower() if match else requirement

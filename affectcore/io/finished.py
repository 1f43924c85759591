"""What of an output folder is finished, for those who read scores."""

from __future__ import annotations

import itertools
from pathlib import Path

from affectcore.errors import InputError
from affectcore.io.manifest import MANIFEST, DamagedManifest, Manifest, few_names
from affectcore.io.manifest_lines import FAILED, GONE, HERE

__all__ = ["finished_parts"]


def finished_parts(folder: Path) -> tuple[list[Path], set[str], list[str]]:
    """Return which score files in an output folder count.

    What counts are the parts of inputs that a run read to their end, or to a fault that is on record: not those of
    inputs that are unfinished, or were gone when the last run looked.

    Returns
    -------
    list of Path, set of str, list of str
        The files that count; what does not, as sentences; and the names of the files that these are about, between.

    Raises
    ------
    InputError
        The manifest is damaged.
    """
    path = folder / MANIFEST
    try:
        manifest = Manifest(path)
    except DamagedManifest as exc:
        raise InputError(path, exc.reason, "score again with --overwrite, or name the score files one by one") from exc
    counted: list[Path] = []
    unfinished, gone, faulty, changed, left_out = [], [], [], [], []
    for stem, source in manifest.stems().items():
        state = manifest.states.get(stem, ("", HERE))[1]
        parts, whole = manifest.sequence(stem)
        if state == FAILED:
            parts = list(itertools.takewhile(lambda part: part.unchanged(folder), parts))
        left_out.append(stem)
        if state == GONE:
            gone.append(source)
        elif not whole and state != FAILED:
            unfinished.append(source)
        elif not all(part.unchanged(folder) for part in parts):
            changed.append(source)
        else:
            left_out.pop()
            counted += [folder / part.output for part in parts]
            if state == FAILED or parts[-1].failed:
                faulty.append(source)
    notes = []
    if unfinished:
        how = "the same affectcore score with --resume finishes them"
        notes.append(f"Left out of {folder}: scores of unfinished inputs, {few_names(unfinished)}; {how}.")
    if gone:
        notes.append(f"Left out of {folder}: scores of inputs that are no longer there, {few_names(gone)}.")
    if changed:
        how = "affectcore score with --resume makes them again"
        notes.append(f"Left out of {folder}: scores with a part missing or changed, of {few_names(changed)}; {how}.")
    if faulty:
        notes.append(f"{folder} has only a part of what could not be read (see _errors.jsonl): {few_names(faulty)}.")
    told_of = {part.output for stem in left_out for part in manifest.of(stem)}
    return sorted(counted), told_of, notes

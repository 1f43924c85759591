"""Names of outputs: a stem for each input, short where that tells them apart, and the same again on resume."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from affectcore.errors import InputError
from affectcore.io.manifest import Part, fingerprint
from affectcore.io.readers import Source

__all__ = ["stems_of"]

_MOST_BYTES = 200  # with a part's number, its ending and those of a temporary file, a name has 255 at most


def stems_of(
    sources: Iterable[Source], earlier: Mapping[str, str], parts: Iterable[Part], taken: Iterable[str]
) -> dict[Path, str]:
    """Return a file name stem for each source.

    Parameters
    ----------
    sources
        The inputs.
    earlier
        Stems that earlier runs gave, and their inputs. Inputs keep theirs, also when they were moved, and no other
        input gets one of them: else its parts would be replaced.
    parts
        Parts of those inputs, which know an input by its fingerprint when it was moved, or moved back.
    taken
        Stems that nothing may have, because files of other people are called like that.
    """
    before = {os.path.realpath(path): stem for stem, path in earlier.items()}
    gone = {stem for path, stem in before.items() if not Path(path).exists()}
    moved = {part.fingerprint: part.stem for part in parts if part.stem in gone}
    same = {(os.path.realpath(part.input), part.fingerprint): part.stem for part in parts}
    stems: dict[Path, str] = {}
    given: set[str] = set()
    rest = []
    for source in sources:
        path = os.path.realpath(source.path)
        kept = before.get(path)
        if kept is None:
            with contextlib.suppress(InputError):
                mark = fingerprint(source.path)
                kept = moved.pop(mark, None) or same.get((path, mark))
        if kept is None or kept in given:
            rest.append(source)
        else:
            given.add(kept)
            stems[source.path] = kept
    # Some file systems take names for one that differ in case only.
    used = {stem.casefold() for stem in (*earlier, *taken)}
    for source in rest:
        parent = source.path.resolve().parent.as_posix().strip("/")
        for candidate in (_bare(source.name), source.name, f"{parent}/{source.name}"):
            stem = _shortened(candidate.replace("/", "__"))
            if stem.casefold() not in used:
                break
        while stem.casefold() in used:
            stem += "_"
        used.add(stem.casefold())
        stems[source.path] = stem
    return stems


def _bare(name: str) -> str:
    path = Path(name)
    for _ in range(2):
        if path.suffix.lower() in (".gz", ".zst", ".zstd"):
            path = path.with_suffix("")
    return path.with_suffix("").as_posix() if path.suffix and path.stem else path.as_posix()


def _shortened(stem: str) -> str:
    """Return a stem as it is, or the beginning of one that is too long and a hash of the whole."""
    if stem in ("", ".", ".."):
        return f"{stem}_"
    data = os.fsencode(stem)
    if len(data) <= _MOST_BYTES:
        return stem
    digest = hashlib.sha256(data).hexdigest()[:16]
    return f"{data[: _MOST_BYTES - 17].decode('utf-8', 'ignore')}-{digest}"

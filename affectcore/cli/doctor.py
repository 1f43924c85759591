"""``affectcore doctor``: what is installed, what can run here, and whether the numbers are right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Any

import typer

from affectcore import escape
from affectcore.cli.console import echo, err
from affectcore.errors import EXIT_FAILED

# vaderSentiment 3.3.2 on each text: compound, pos, neu, neg.
_KNOWN = (
    ("This is a GREAT answer, and I really love it!!!", (0.9043, 0.56, 0.44, 0.0)),
    ("I am sorry, but the test still fails and I don't know why.", (-0.5927, 0.0, 0.694, 0.306)),
    ("The plot was not bad at all 😊 but the ending felt hopeless...", (-0.0194, 0.258, 0.567, 0.174)),
)
_COLUMNS = ("vader_compound", "vader_pos", "vader_neu", "vader_neg")
_REQUIRED = ("numpy", "pyarrow", "numba", "rich", "typer")
_OPTIONAL = {
    "torch": "only the triton backend needs it: pip install 'affectcore[gpu]'",
    "triton": "only the triton backend needs it: pip install 'affectcore[gpu]'",
    "tokenizers": "only checkpoints of other than BERT's tokenizer need it: pip install 'affectcore[encoder]'",
}

OK, NOTE, BROKEN = "ok", "note", "BROKEN"
Line = tuple[str, str, str]  # state, what, detail


def doctor(
    warm: Annotated[
        bool,
        typer.Option(
            "--warm",
            envvar="AFFECTCORE_WARM",
            help="Also compile all kernels for this CPU that scoring and comparing need, so that later runs need not.",
            show_default="off",
        ),
    ] = False,
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            envvar="AFFECTCORE_MODEL",
            help="The model that --warm compiles for: static, mini, none, a directory, or a checkpoint.",
        ),
    ] = "static",
) -> None:
    """Check the installation: versions, backends, cache, word lists, and three sentences with known scores."""
    lines: list[Line] = []
    checks: list[Callable[[], Iterator[Line]]] = [_versions, _cores, _backends, _precisions, _cache, _lexicons, _demo]
    if warm:
        checks.append(partial(_warm, model))
    for check in (*checks, _self_check):
        lines.extend(_run(check))
    # Plain lines, not a table that folds: paths and messages stay whole, to copy.
    width = max(len(what) for _, what, _ in lines)
    for state, what, detail in lines:
        echo(escape.line(f"{state:<{len(BROKEN)}}  {what:<{width}}  {detail}"))
    broken = sum(state == BROKEN for state, _, _ in lines)
    if broken:
        err().print(f"error: {broken} {'check' if broken == 1 else 'checks'} failed (marked {BROKEN} above)")
        raise typer.Exit(EXIT_FAILED)


def _run(check: Callable[[], Iterator[Line]]) -> Iterator[Line]:
    # Whatever a check raises is a finding; the other checks still say what they know.
    try:
        yield from check()
    except Exception as error:
        name = getattr(check, "func", check).__name__
        yield BROKEN, name.strip("_").replace("_", " "), f"{type(error).__name__}: {error}"


def _versions() -> Iterator[Line]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from affectcore._version import __version__

    yield OK, "affectcore", __version__
    yield OK, "Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    for name in (*_REQUIRED, *_OPTIONAL):
        try:
            yield OK, name, version(name)
        except PackageNotFoundError:
            if name in _REQUIRED:
                yield BROKEN, name, f"not installed: pip install {name}"
            else:
                yield NOTE, name, f"not installed; {_OPTIONAL[name]}"


def _cores() -> Iterator[Line]:
    import os

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield OK, "cores", f"{usable} usable of {os.cpu_count()}"


def _backends() -> Iterator[Line]:
    from affectcore.kernels.dispatch import available

    for name, state in available().items():
        if state == "ok":
            yield OK, f"backend {name}", "can run"
        else:
            yield (NOTE if name == "triton" else BROKEN), f"backend {name}", state


def _precisions() -> Iterator[Line]:
    from affectcore.kernels.dispatch import why_not
    from affectcore.kernels.encoder import precisions

    for backend in ("numba", "triton"):
        if not why_not(backend):
            yield OK, f"encoders, {backend}", f"in {', '.join(precisions(backend))}"


def _cache() -> Iterator[Line]:
    from pathlib import Path

    from affectcore.kernels.cache import CURE, place
    from affectcore.kernels.words import cpu

    found = place(Path(cpu.__file__).absolute().parent)
    for folder in found.readable:
        yield OK, "JIT cache", f"{folder}, for reading only"
    if found.kind == "none":
        yield NOTE, "JIT cache", f"none, every process compiles anew ({'; '.join(found.refused)}): {CURE}"
    elif found.kind == "temporary":
        yield NOTE, "JIT cache", f"{found.shown}, a temporary one ({'; '.join(found.refused)}): {CURE}"
    elif found.complaint:
        yield NOTE, "JIT cache", f"{found.shown} ({found.refused[0]})"
    else:
        yield OK, "JIT cache", found.shown


def _lexicons() -> Iterator[Line]:
    from affectcore.lexicons import LISTS, load, read_list

    load()
    entries = sum(len(read_list(name)[0]) for name in LISTS)
    yield OK, "word lists", f"{len(LISTS)} lists with {entries:,} entries, and VADER's lexicon"


def _demo() -> Iterator[Line]:
    from affectcore.cli.demo import dump

    yield OK, "demo dump", f"{len(dump().splitlines())} rows"


def _warm(model: str) -> Iterator[Line]:
    from affectcore.cli.console import progress
    from affectcore.warmup import warm_up

    with progress(err(), task="compiling kernels for this CPU (once)"):
        found = warm_up(model)
    n = len(found.kernels)
    kernels = f"{n} {'kernel' if n == 1 else 'kernels'} compiled in {found.seconds:.1f} s"
    yield OK, "warm-up", f"{kernels if n else 'nothing to compile'}, for model {model}, all units, and compare"


def _self_check() -> Iterator[Line]:
    import time

    import numpy as np

    from affectcore.scorer import Scorer

    started = time.perf_counter()
    table: Any = Scorer(metrics=["vader"]).score([text for text, _ in _KNOWN])
    seconds = time.perf_counter() - started
    found = np.stack([table[name].to_numpy() for name in _COLUMNS], axis=1)
    wanted = np.array([values for _, values in _KNOWN], dtype=np.float32)
    wrong = [text for (text, _), a, b in zip(_KNOWN, found, wanted) if not np.array_equal(a, b)]
    for text in wrong:
        yield BROKEN, "self-check", f"scores differ from vaderSentiment 3.3.2 on: {text}"
    if not wrong:
        yield OK, "self-check", f"{len(_KNOWN)} sentences score as vaderSentiment 3.3.2 does ({seconds:.1f} s)"

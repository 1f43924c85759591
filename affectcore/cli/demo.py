"""``affectcore demo``: score the bundled dump and print two leaderboards."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from affectcore import escape
from affectcore.cli.compiling import uncounted
from affectcore.cli.console import err, hint, out, progress
from affectcore.errors import OutputError

_METRICS = ("vader_compound", "flattery", "self_blame")


def demo(
    keep_files: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            envvar="AFFECTCORE_KEEP_FILES",
            help="Folder to leave the dump (demo.jsonl) and its scores (demo-scores.parquet) in.",
            show_default="a temporary one, removed at the end",
        ),
    ] = None,
) -> None:
    """Score a small made-up dump that comes with the package, and rank its models."""
    import tempfile

    console = err()
    console.print("The demo dump is made up: four invented models, each a caricature, answer the same prompts.")
    if keep_files is None:
        try:
            temporary = tempfile.TemporaryDirectory(prefix="affectcore-demo-")
        except OSError as error:
            raise OutputError(
                f"no temporary folder can be made: {error.strerror or error}; name a folder with --keep-files"
            ) from None
        with temporary as folder:
            _run(Path(folder))
        hint(console, "affectcore demo --keep-files demo/ leaves the dump and its scores to look at")
    else:
        try:
            keep_files.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{keep_files}: cannot be made: {error.strerror}; choose another folder") from error
        scores = _run(keep_files)
        hint(console, f"affectcore compare {escape.shell(str(scores))} --by model --metric hedges")
    console.print("hint: affectcore score YOUR_DUMP.jsonl -o scores.parquet scores texts of your own")


def dump() -> str:
    """Return the text of the bundled demo dump, one JSON object per line."""
    from importlib.resources import files

    return files("affectcore").joinpath("data", "demo.jsonl").read_text(encoding="utf-8")


def _run(folder: Path) -> Path:
    from affectcore.comparison import compare
    from affectcore.pipeline.run import score_dataset
    from affectcore.scorer import Scorer
    from affectcore.warmup import load_kernels

    source, target = folder / "demo.jsonl", folder / "demo-scores.parquet"
    text = dump().encode()
    try:
        ours = source.is_file() and source.read_bytes() == text
        for path in () if ours else (source, target):
            if os.path.lexists(path):
                raise OutputError(f"{path} exists and is not the demo's, so it is left alone; choose another folder")
        source.write_bytes(text)
    except OSError as error:
        raise OutputError(f"{source}: cannot be written: {error.strerror}; choose another folder") from error
    console, scorer = err(), Scorer()
    load_kernels(scorer)
    with progress(console) as callback:
        report = score_dataset([source], target, scorer=scorer, text="response", overwrite=True, progress=callback)
    console.print(f"scored {report.n_rows:,} rows in {report.seconds - report.compile_seconds:.1f} s")
    if report.compile_seconds:
        console.print(uncounted(report.compile_seconds))
    console.print()
    out().print(compare(target, by="model", metrics=_METRICS).to_rich())
    return target

"""What a wheel holds, and that it works without the checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import affectcore

ROOT = Path(affectcore.__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("not a checkout: there is nothing to build a wheel from")
    # Build from a copy, so that no build folder appears in the checkout.
    source, out = tmp_path_factory.mktemp("source") / "affectcore", tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns(".git", ".venv*", "__pycache__", ".*_cache", ".hypothesis", "results")
    shutil.copytree(ROOT, source, symlinks=True, ignore=ignored)
    code = f"from hatchling.build import build_wheel; print(build_wheel({str(out)!r}))"
    run = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return out / run.stdout.strip().splitlines()[-1]


def test_contents(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"affectcore"}
    wanted = {
        "affectcore/py.typed",
        "affectcore/kernels/dispatch.py",
        "affectcore/kernels/words/gpu.py",
        "affectcore/lexicons/hedges.txt",
        "affectcore/lexicons/vader/lexicon.tsv",
        "affectcore/lexicons/vader/LICENSE.txt",
        "affectcore/data/demo.jsonl",
        "affectcore/data/negation.tsv",
        "affectcore/lexicons/emonet/LICENSE.txt",
        "affectcore/kernels/encoder/cpu.py",
        "affectcore/models/embedded/mini/config.json",
        *(
            f"affectcore/models/embedded/{model}/{name}"
            for model in ("mini", "static")
            for name in ("README.md", "affect.json", "model.safetensors", "tokenizer.json")
        ),
    }
    assert wanted <= set(names)
    assert len(names) == len(set(names))
    # What each model adds to an install.
    for model, most in (("static", 12.5e6), ("mini", 25e6)):
        files = [f for f in zipfile.ZipFile(wheel).infolist() if f"/embedded/{model}/" in f.filename]
        assert sum(file.file_size for file in files) < most
    assert not [name for name in names if name.endswith((".pyc", ".nbi", ".nbc")) or "/tests/" in name]


def test_installed_wheel_scores(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "import affectcore as ac\n"
        f"assert ac.__file__.startswith({str(site)!r}), ac.__file__\n"
        "row = ac.Scorer(metrics='vader_compound,emotion_love').score(['I love this!']).to_pylist()[0]\n"
        "assert row['emotion_love'] > 0.5\n"
        "assert ac.Scorer('mini').provenance()['model'] == 'mini'\n"
        "print(row['vader_compound'])"
    )
    run = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) == pytest.approx(0.6696)

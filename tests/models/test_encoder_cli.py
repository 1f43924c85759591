"""Encoders on the command line: scoring, describing, training, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from made_checkpoints import made
from test_encoder_model import columns, labelled, sentences, spoiled

from affectcore.cli.main import main
from affectcore.kernels import encoder as kernels
from affectcore.models import base, safetensors


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("MODEL", "PRECISION", "LONG", "TEXT", "DATA"):
        monkeypatch.delenv(f"AFFECTCORE_{name}", raising=False)


def dump(path: Path, texts: list[str | None]) -> Path:
    path.write_text("".join(json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(texts)))
    return path


def test_score_tells_what_the_encoder_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = dump(tmp_path / "in.jsonl", ["i love this", "so sad", "so sad", None] * 5), tmp_path / "out.parquet"
    args = ["score", str(data), "-o", str(out), "--model", str(made("bert")), "--precision", "fp32"]
    assert main([*args, "--long", "window"]) == 0
    told = capsys.readouterr().err
    line = next(line for line in told.splitlines() if line.startswith("encoder: "))
    assert re.fullmatch(
        r"encoder: [\d,]+ tokens/s; \d+% tokenizing, \d+% packing, \d+% computing; 0% padding; "
        r"3 of 20 sequences computed \(equal ones once\)",
        line,
    ), line
    table = pq.read_table(out)
    assert set(columns(made("bert"))) < set(table.column_names) and table.num_rows == 20
    kept = json.loads(table.schema.metadata[b"affectcore"])
    assert (kept["model"], kept["precision"], kept["long"]) == ("bert-5-None", "fp32", "window")
    assert main([*args, "--overwrite", "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["score", str(data), "-o", str(out), "--overwrite"]) == 0
    assert "encoder" not in capsys.readouterr().err


def test_mini_scores_a_dump(tmp_path: Path) -> None:
    data, out = dump(tmp_path / "in.jsonl", ["I love this!", "I am so sorry for your loss."]), tmp_path / "out.parquet"
    assert main(["score", str(data), "-o", str(out), "--model", "mini", "--taxonomy", "ekman", "-q"]) == 0
    table = pq.read_table(out)
    assert table["emotion_love"][0].as_py() > 0.5 and table["ekman_sadness"][1].as_py() > 0.3
    assert json.loads(table.schema.metadata[b"affectcore"])["precision"] in ("int8", "fp32")


def test_a_long_text_is_named_by_file_and_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts: list[str | None] = [*sentences(8000), "love " * 600, "sad"]  # several batches
    data = dump(tmp_path / "in.jsonl", texts)
    args = ["score", str(data), "-o", str(tmp_path / "out.parquet"), "--model", str(made("bert")), "--long"]
    assert data.stat().st_size > 2 * base.load(made("bert")).batch_bytes
    assert main([*args, "error", "--precision", "fp32"]) == 2
    told = capsys.readouterr().err
    assert f"error: {data}, row 8000: it has 600 tokens, and bert-5-None takes 510 at once (let long texts" in told
    assert not (tmp_path / "out.parquet").exists()
    assert main([*args, "truncate", "--precision", "fp32"]) == 0
    assert pq.read_table(tmp_path / "out.parquet")["truncated"].to_pylist() == [0] * 8000 + [1, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--precision", "bf16"], "precision and long are settings of encoders, and model static is none"),
        (["--model", "none", "--long", "window"], "settings of encoders, and model none is none"),
        (["--model", "mini", "--precision", "fp16"], "there are auto, fp32, bf16, int8"),
        (["--model", "mini", "--long", "cut"], "there are segment, window, truncate, error"),
        (["--model", "some/model"], "fetch it first with hf download"),
    ],
)
def test_settings_that_are_refused(
    tmp_path: Path,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    data = dump(tmp_path / "in.jsonl", ["love"])
    assert main(["score", str(data), "-o", str(tmp_path / "out.parquet"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.parquet").exists()


def test_models_lists_mini_and_describes_checkpoints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line[0] != " "] == ["model", "mini", "static"]
    assert main(["models", "mini"]) == 0
    shown = capsys.readouterr().out
    assert "network: bert, 6 layers of 384, 22.6 million parameters; takes 512 tokens at once" in shown
    assert "emotion: a sigmoid per label: admiration, amusement," in shown and "## How to run it" in shown

    cached = tmp_path / "models--org--small" / "snapshots" / "0123"
    shutil.copytree(made("bert"), cached)
    (cached / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\n# Small\n")
    arrays = {name: a.copy() for name, a in safetensors.read(cached / "model.safetensors")[0].items()}
    spoiled("a layer")(arrays)
    safetensors.write(cached / "model.safetensors", arrays)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert main(["models", "org/small", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["name"], record["licence"], record["base"]) == ("org/small", "mit", None)
    assert record["heads"][0]["labels"] == [f"LABEL_{k}" for k in range(5)]
    assert record["heads"][0]["kind"] == "single_label"
    weights = sum(a.size for a in arrays.values())
    assert record["network"] == {
        "type": "bert",
        "layers": 3,
        "width": 64,
        "parameters": weights,
        "max_tokens": 512,
        "non_finite": ["bert.encoder.layer.1.output.dense.weight"],
    }
    assert main(["models", "org/small"]) == 0
    shown = capsys.readouterr().out
    assert "softmax over labels: LABEL_0, LABEL_1" in shown and "# Small" in shown
    assert "NaN or infinity in bert.encoder.layer.1.output.dense.weight: texts that meet it get null scores" in shown
    assert main(["models", "org/smal"]) == 2
    assert "unknown model 'org/smal'" in capsys.readouterr().err
    (cached / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    assert main(["models", str(cached)]) == 1
    assert "model_type is 'gpt2': affectcore runs bert, distilbert" in capsys.readouterr().err


def test_train_on_a_checkpoint_and_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made("bert"), tmp_path / "small")
    monkeypatch.chdir(tmp_path)
    args = ["train", "--data", str(labelled(tmp_path)), "--label", "mood", "--head", "mood", "--resamples", "0"]
    assert main([*args, "--model", "small"]) == 0
    assert "features of small" in " ".join(capsys.readouterr().out.split())
    assert main(["models", "mood"]) == 0
    assert "mood (2); on small" in " ".join(capsys.readouterr().out.split())
    data, out = dump(tmp_path / "in.jsonl", ["wonderful", "so terrible"]), tmp_path / "out.parquet"
    monkeypatch.chdir("/")
    assert main(["score", str(data), "-o", str(out), "--model", str(tmp_path / "mood"), "--metrics", "mood"]) == 0
    table = pq.read_table(out)
    assert table.column_names == ["id", "mood_down", "mood_up"]
    assert str(tmp_path) not in str(table.schema.metadata)
    judge = ["eval", "--data", str(tmp_path / "labelled.jsonl"), "--label", "mood", "--resamples", "0"]
    assert main([*judge, "--model", str(tmp_path / "mood")]) == 0
    assert "accuracy" in capsys.readouterr().out


def test_doctor_says_what_encoders_can_compute_in(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert f"encoders, numba    in {', '.join(kernels.precisions())}" in shown
    assert re.search(r"encoders, triton +in fp32, bf16\n", shown), "the tests run Triton's interpreter"
    assert re.search(r"(?m)^ok +tokenizers +\d", shown)

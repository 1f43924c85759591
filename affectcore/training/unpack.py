"""Read the embedded `mini` back as a teacher, to go on from it without the hours that its first stages take.

``python -m affectcore.training.unpack --out build/teacher`` writes what `affectcore.training.finetune` would have: the
weights, which are int8 in the package, as float32, and the first stages' record from the model's card. Its upper layers
have seen the tone sets, so folds that start from it do not tell how well unseen text is judged.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import numpy as np

from affectcore.models import safetensors
from affectcore.models.base import EMBEDDED


def unpack(model: Path, out: Path) -> None:
    """Write `model.safetensors`, `config.json`, `tokenizer.json` and `training.json` of a packaged encoder."""
    arrays, _ = safetensors.read(model / "model.safetensors")
    weights: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if name.startswith("encoder.") and not name.endswith(".scale"):
            scale = arrays.get(f"{name}.scale")
            weights[name] = array.astype(np.float32) * (1 if scale is None else scale[:, None])
    for ours, theirs in (("emotion", "goemotions"), ("vad", "vad")):
        weights[f"heads.{theirs}.weight"] = np.ascontiguousarray(arrays[f"heads.{ours}.weight"].T, np.float32)
        weights[f"heads.{theirs}.bias"] = np.asarray(arrays[f"heads.{ours}.bias"], np.float32)
    out.mkdir(parents=True, exist_ok=True)
    safetensors.write(out / "model.safetensors", weights)
    for name in ("config.json", "tokenizer.json"):
        (out / name).write_bytes((model / name).read_bytes())
    found = re.search(r"```json\n(.*?)\n```", (model / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert found, "the card has no record of its training"
    record = json.loads(found[1])
    while "fold" in record:  # the tone stage, which starts from the teacher again
        record = record["earlier"]
    (out / "training.json").write_text(json.dumps({**record, "weights": "read back from int8"}, indent=1))


def main() -> None:
    """Unpack one model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=EMBEDDED / "mini", help="folder of the packaged model")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    unpack(options.model, options.out)


if __name__ == "__main__":
    main()

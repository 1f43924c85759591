"""Scorers and models travel: copies, pickles, closures, and pools of processes however they are started."""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import affectcore as ac
from affectcore.errors import InputError, TextError, UsageError
from affectcore.models import base
from affectcore.models.base import Head

TEXTS = ["I love this so much, thank you!", "", None, "What a terrible idea. ```x = 1``` Nobody should do that."]
KINDS = ("none", "static", "mini", "heads")
WAYS: dict[str, Callable[[Any], Any]] = {
    **{
        f"pickle {protocol}": lambda x, protocol=protocol: pickle.loads(pickle.dumps(x, protocol))
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def own_head(name: str = "mine") -> Head:
    width = len(base.load("static").heads[0].weight)
    weight = np.random.default_rng(0).normal(size=(width, 1)).astype(np.float32)
    one = np.ones(1, np.float32)
    return Head(name, "multi_label", ("a",), (f"{name}_a",), weight, 0 * one, one, 0 * one, one / 2)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pickle") / "mine"
    base.save_heads(path, base.load("static"), [own_head()], "# mine\n")
    return path


@pytest.fixture(scope="module")
def scorers(directory: Path) -> dict[str, ac.Scorer]:
    return {
        "none": ac.Scorer("none", metrics=["vader", "n_words"], vader="corrected"),
        "static": ac.Scorer(unit="segment", logits=True, taxonomy=("ekman",), threads=2),
        "mini": ac.Scorer("mini", metrics="emotion,distress", precision="fp32", long="window", exclude="code"),
        "heads": ac.Scorer(str(directory), exclude="none", parts="both"),
    }


def same(found: ac.Scorer, wanted: ac.Scorer) -> bool:
    return (
        found is not wanted
        and found.schema.equals(wanted.schema, check_metadata=True)
        and found.provenance() == wanted.provenance()
        and found.threads == wanted.threads
        and found.score(TEXTS).equals(wanted.score(TEXTS))
    )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_scorer_is_copied_by_its_settings(scorers: dict[str, ac.Scorer], kind: str, way: str) -> None:
    assert same(WAYS[way](scorers[kind]), scorers[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_closures_travel(scorers: dict[str, ac.Scorer], kind: str) -> None:
    """What Ray, Dask and Spark do with a function that holds a scorer."""
    cloudpickle = pytest.importorskip("cloudpickle")
    scorer = scorers[kind]
    sent = cloudpickle.dumps(lambda texts: scorer.score(texts))
    assert pickle.loads(sent)(TEXTS).equals(scorer.score(TEXTS))
    assert same(cloudpickle.loads(cloudpickle.dumps(scorer)), scorer)


@pytest.mark.parametrize("kind", KINDS)
def test_pickles_are_small(scorers: dict[str, ac.Scorer], kind: str) -> None:
    scorers[kind].score(TEXTS)  # what has been loaded stays here
    assert len(pickle.dumps(scorers[kind])) < 2000


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize(
    "start", [s for s in ("fork", "spawn", "forkserver") if s in multiprocessing.get_all_start_methods()]
)
def test_pools_of_processes(scorers: dict[str, ac.Scorer], start: str) -> None:
    wanted = {kind: scorer.score(TEXTS) for kind, scorer in scorers.items()}  # with threads, before any fork
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(start)) as pool:
        for kind, scorer in scorers.items():
            found, schema = pool.submit(scorer.score, TEXTS), pool.submit(getattr, scorer, "schema")
            assert found.result(timeout=300).equals(wanted[kind]), kind
            assert schema.result(timeout=300).equals(scorer.schema, check_metadata=True)
        # An error comes back as it is, and the pool goes on.
        with pytest.raises(InputError) as caught:
            pool.submit(base.load, Path(__file__).parent).result(timeout=300)
        assert caught.value.remedy
        assert pool.submit(scorers["none"].score, ["x"]).result(timeout=300).num_rows == 1


@pytest.fixture
def scoring(scorers: dict[str, ac.Scorer]) -> Iterator[None]:
    """Another thread that scores, and loads anew, all the while."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            base._load.cache_clear()
            scorers["mini"].score(TEXTS)
            ac.Scorer().score(TEXTS)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_never_finds_a_lock_held(scorers: dict[str, ac.Scorer], scoring: None) -> None:
    wanted = ac.Scorer().score(TEXTS)
    for _ in range(25):
        child = os.fork()
        if child == 0:
            os._exit(0 if ac.Scorer(threads=2).score(TEXTS).equals(wanted) and scorers["mini"].score(TEXTS) else 1)
        _, status = _wait(child, 60)
        assert status == 0


def _wait(child: int, seconds: float) -> tuple[int, int]:
    import time

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return found, status
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    raise AssertionError(f"the forked process did not end within {seconds} s: it waits for a lock")


def test_a_model_directory_is_found_from_another_folder(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(directory.parent)
    scorer = ac.Scorer("mine")
    sent = pickle.dumps(scorer)
    monkeypatch.chdir(directory.parent.parent)
    assert same(pickle.loads(sent), scorer)


def test_another_model_at_the_path_is_an_error(directory: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine"
    base.save_heads(path, base.load("static"), [own_head()], "")
    sent, model = pickle.dumps(ac.Scorer(str(path))), pickle.dumps(base.load(path))
    record = json.loads((path / "affect.json").read_text())
    record["heads"][0]["level"] = "passage"
    (path / "affect.json").write_text(json.dumps(record))
    for data in (sent, model):
        with pytest.raises(InputError, match=r"pickled has the content hash .* the one that is here now"):
            pickle.loads(data)
    for file in path.iterdir():
        file.unlink()
    path.rmdir()
    with pytest.raises(UsageError, match="unknown model"):
        pickle.loads(sent)


def test_a_model_that_changed_is_loaded_again(tmp_path: Path) -> None:
    path, texts = tmp_path / "mine", ["I love this."]
    base.save_heads(path, base.load("static"), [own_head()], "")
    before = ac.Scorer(str(path), metrics="mine").score(texts)
    base.save_heads(path, base.load("static"), [replace(own_head(), shift=np.full(1, 3, np.float32))], "")
    assert ac.Scorer(str(path), metrics="mine").score(texts) != before


def test_none_for_threads_means_the_cores_of_the_other_side(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = [pickle.dumps(ac.Scorer("none", threads=threads)) for threads in (None, 3)]
    monkeypatch.setattr("affectcore.scorer.usable_cores", lambda: 7)
    assert [pickle.loads(data).threads for data in sent] == [7, 3]


def test_models_travel(directory: Path) -> None:
    texts = pa.array(["I love this.", "I hate that."])
    static, mini = base.load("static"), base.load("mini")
    other = own_head("other")
    for model in (
        static,
        mini,
        base.load(directory),
        static.excluding(("code",)),
        static.with_heads([other], "other", "0123"),
        mini.configured("fp32", "truncate"),  # type: ignore[attr-defined]
    ):
        found = pickle.loads(pickle.dumps(model))
        assert (found.name, found.content_hash, found.exclude, found.counts, found.source) == (
            model.name,
            model.content_hash,
            model.exclude,
            model.counts,
            model.source,
        )
        assert found.settings("numba") == model.settings("numba")
        wanted, scores = model.predict(texts), found.predict(texts)
        assert wanted.keys() == scores.keys()
        for name in wanted:
            np.testing.assert_array_equal(scores[name], wanted[name])
    assert len(pickle.dumps(mini)) < 2000


def test_errors_travel() -> None:
    for error in (
        InputError("a.json", "it is cut", "copy it again", 7),
        TextError(3, "it is long", "cut it", "a, row 3"),
    ):
        found = pickle.loads(pickle.dumps(error))
        assert type(found) is type(error) and str(found) == str(error) and vars(found) == vars(error)


def test_what_a_scorer_looks_like(directory: Path) -> None:
    assert repr(ac.Scorer()) == "Scorer()"
    assert repr(ac.Scorer("none", metrics=["vader"], threads=2)) == (
        "Scorer(model='none', metrics=('vader',), threads=2)"
    )
    assert eval(repr(ac.Scorer(unit="turn", roles="all")), {"Scorer": ac.Scorer}).view == "turns"

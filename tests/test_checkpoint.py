"""Checkpoints that resume to the same result, and saved fits that give the same posterior."""

from __future__ import annotations

import errno
import json
import os
import random
import re
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

import graphlore
from graphlore.data import Graph, karate, random_split
from graphlore.guides import MeanField, StructuredMeanField
from graphlore.inference import Fit, InferenceError, fit, tensor_files
from graphlore.models import DGLFRM, Concrete

KARATE = karate()
NAME = "checkpoint.safetensors"


def a_pair(graph=KARATE, guide_options=None, **story_options):
    torch.manual_seed(3)
    options = {"decoder": (3,), "bias": "node", **story_options}
    story = DGLFRM(graph.num_nodes, 4, **options)
    kind = StructuredMeanField if story.sticks_placement == "global" else MeanField
    return story, kind(story, graph, **{"hidden": (8,), "dropout": 0.3, **(guide_options or {})})


def weights(found):
    parts = (("story", found.story), ("guide", found.guide))
    return {f"{n}.{k}": v for n, m in parts for k, v in m.state_dict().items()}


def assert_same_fit(a, b):
    one, two = weights(a), weights(b)
    assert one.keys() == two.keys()
    assert [k for k in one if not torch.equal(one[k], two[k])] == []
    assert a.best_step == b.best_step
    for name in a.history:
        if name != "seconds":
            assert a.history[name] == b.history[name], name
    assert len(a.history["seconds"]) == len(b.history["seconds"])


class Stop(Exception):
    pass


def interrupted(graph, folder, at, pair=None, **options):
    """A fit that a callback ends after step ``at``; its checkpoint stays."""

    def stop(step, _):
        if step == at:
            raise Stop

    story, guide = a_pair(getattr(graph, "train", graph), **(pair or {}))
    with pytest.raises(Stop):
        fit(story, guide, graph, folder=folder, callbacks=[stop], **options)


@pytest.fixture(scope="module")
def split():
    return random_split(KARATE, val=0.1, test=0.1, seed=1)


EVERYTHING = {
    "averaging": 0.9,
    "validate_every": 3,
    "validation_draws": 3,
    "kl_warmup": 4,
    "settle": 6,
    "learning_rate": 0.05,
    "weight_decay": 0.01,
    "patience": 50,
    "seed": 11,
}
CASES = {
    "plain": ({}, {}, {}),
    "everything": (EVERYTHING, {}, {}),
    "concrete": ({"gradient": "concrete", "settle": 3}, {}, {}),
    "reinforce": ({"gradient": "reinforce", "num_particles": 2}, {}, {}),
    "local expectation": ({"gradient": "local_expectation", "expectation_columns": 9}, {}, {}),
    "neural baseline": ({"settle": 3}, {}, {"baseline": "neural"}),
    "no baseline": ({}, {"sticks": "local", "strengths": False}, {"baseline": None}),
}


@pytest.mark.parametrize("case", CASES)
def test_interrupted_and_resumed_is_bit_for_bit_the_fit_that_ran_through(case, split, tmp_path):
    options, story, guide = CASES[case]
    settings = {"steps": 13, "checkpoint_every": 4, **options}
    pair = {"guide_options": guide, **story}
    whole = fit(*a_pair(split.train, **pair), split, **settings)
    # 4 writes the checkpoint after step 3 and is stopped a step later; the last one runs out a step before the end
    ends = {4, random.randrange(4, 12), 12} | ({14, 17} if case == "everything" else set())
    for at in sorted(ends):
        folder = tmp_path / str(at)
        interrupted(split, folder, at, pair, **settings)
        # other weights than those of the start: all of them come from the file
        story, guide = a_pair(split.train, **pair)
        with torch.no_grad():
            for p in (*story.parameters(), *guide.parameters()):
                p.add_(0.5)
        torch.manual_seed(at)
        resumed = fit(story, guide, split, folder=folder, resume=True, **settings)
        assert_same_fit(whole, resumed)


def test_a_resumed_fit_does_only_the_steps_that_were_lacking(tmp_path):
    interrupted(KARATE, tmp_path, 6, steps=10, checkpoint_every=4)
    steps = []
    fit(
        *a_pair(),
        KARATE,
        steps=10,
        checkpoint_every=4,
        folder=tmp_path,
        resume=True,
        callbacks=[lambda s, _: steps.append(s)],
    )
    assert steps == [4, 5, 6, 7, 8, 9]


def test_interrupted_in_the_settle_phase_goes_on_in_it(split, tmp_path):
    settings = {"steps": 6, "settle": 8, "checkpoint_every": 2, "validate_every": 2}
    whole = fit(*a_pair(split.train), split, **settings)
    interrupted(split, tmp_path, 11, **settings)
    modes = []
    story, guide = a_pair(split.train)
    resumed = fit(
        story,
        guide,
        split,
        folder=tmp_path,
        resume=True,
        callbacks=[lambda s, _: modes.append((s, guide.training))],
        **settings,
    )
    assert modes == [(s, False) for s in (10, 11, 12, 13)]
    assert_same_fit(whole, resumed)


def test_interrupted_twice_and_resumed_twice(tmp_path):
    settings = {"steps": 12, "checkpoint_every": 2}
    whole = fit(*a_pair(), KARATE, **settings)
    interrupted(KARATE, tmp_path, 3, **settings)

    def stop(step, _):
        if step == 8:
            raise Stop

    with pytest.raises(Stop):
        fit(*a_pair(), KARATE, folder=tmp_path, resume=True, callbacks=[stop], **settings)
    assert_same_fit(whole, fit(*a_pair(), KARATE, folder=tmp_path, resume=True, **settings))


def test_a_finished_fit_resumes_to_itself(split, tmp_path):
    settings = {"steps": 8, "settle": 2, "checkpoint_every": 5, "validate_every": 2}
    whole = fit(*a_pair(split.train), split, folder=tmp_path, **settings)
    assert_same_fit(
        whole, fit(*a_pair(split.train), split, folder=tmp_path, resume=True, **settings)
    )


def test_checkpoints_do_not_change_a_fit(tmp_path):
    settings = {"steps": 7, "checkpoint_every": 2}
    assert_same_fit(
        fit(*a_pair(), KARATE, **settings), fit(*a_pair(), KARATE, folder=tmp_path, **settings)
    )


def test_a_checkpoint_is_one_safetensors_file_and_nothing_partial_is_left(tmp_path):
    fit(*a_pair(), KARATE, folder=tmp_path / "new" / "run", steps=5, checkpoint_every=2)
    assert [p.name for p in (tmp_path / "new" / "run").iterdir()] == [NAME]
    tensors, metadata = tensor_files.read_tensors(tmp_path / "new" / "run" / NAME)
    plain = json.loads(metadata["run"])
    assert plain["step"] == 5, "the end is kept, too"
    assert plain["settings"]["steps"] == 5
    assert {k.partition(".")[0] for k in tensors} == {"weights", "optimizer", "baseline", "random"}


# -- refusals ---------------------------------------------------------------------------------------


@pytest.fixture
def stopped(tmp_path):
    interrupted(KARATE, tmp_path, 4, steps=8, checkpoint_every=4)
    return tmp_path


def resume(folder, pair=None, graph=KARATE, **options):
    settings = {"steps": 8, "checkpoint_every": 4, **options}
    return fit(*(pair or a_pair(graph)), graph, folder=folder, resume=True, **settings)


def test_other_settings_are_refused_by_name(stopped):
    with pytest.raises(InferenceError, match=rf"{NAME} .*other settings \(learning_rate, seed\)"):
        resume(stopped, learning_rate=0.5, seed=3)


@pytest.mark.parametrize(
    "pair",
    [{"decoder": (5,)}, {"bias": "none"}, {"guide_options": {"hidden": (9,)}}],
    ids=["shapes", "names", "guide"],
)
def test_another_story_or_guide_is_refused_and_stays_as_it_is(stopped, pair):
    story, guide = a_pair(**pair)
    before = {k: v.clone() for k, v in (story.state_dict() | guide.state_dict()).items()}
    with pytest.raises(InferenceError, match=r"of another (story|guide)"):
        resume(stopped, (story, guide))
    after = story.state_dict() | guide.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)


@pytest.mark.parametrize(
    "pair",
    [{"alpha": 5.0}, {"class_weight": "balanced"}, {"guide_options": {"dropout": 0.0}}],
    ids=["alpha", "class_weight", "dropout"],
)
def test_another_story_with_weights_of_the_same_shape_is_refused_too(stopped, pair):
    with pytest.raises(InferenceError, match=r"another (story|guide)"):
        resume(stopped, a_pair(**pair))


def test_a_checkpoint_of_another_graph_is_refused(stopped):
    """The same nodes and other dyads hidden: going on would mix two fits without a word."""
    other = KARATE.hide([[0, 0], [1, 9]])
    with pytest.raises(InferenceError, match="graph"):
        resume(stopped, graph=other)


def test_the_refusal_of_another_story_names_the_file(stopped):
    with pytest.raises(InferenceError, match=NAME):
        resume(stopped, a_pair(decoder=(5,)))


def test_no_checkpoint_is_refused_by_file_name(tmp_path):
    with pytest.raises(InferenceError, match=rf"no file .*{NAME}"):
        resume(tmp_path / "nowhere")


def _truncate(data):
    return data[: len(data) // 2]


def _one_byte_short(data):
    return data[:-1]


def _header(data):
    return b"\xff" * 8 + data[8:]


def _noise(_):
    return np.random.default_rng(0).bytes(500)


def _empty(_):
    return b""


@pytest.mark.parametrize("damage", [_truncate, _one_byte_short, _header, _noise, _empty])
def test_a_damaged_checkpoint_is_refused_by_file_name(stopped, damage):
    file = stopped / NAME
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(InferenceError, match=rf"{NAME} is damaged or not a safetensors file"):
        resume(stopped)


@pytest.mark.parametrize("run", [None, "not json", "{}", '{"settings": {"stepz": 1}}'])
def test_a_safetensors_file_that_is_no_checkpoint_is_refused(stopped, run):
    tensors, _ = tensor_files.read_tensors(stopped / NAME)
    metadata = {} if run is None else {"run": run}
    tensor_files.write_tensors(stopped / NAME, tensors, metadata)
    with pytest.raises(InferenceError, match=rf"{NAME} is no checkpoint of a fit"):
        resume(stopped)


@pytest.mark.parametrize("lacking", ["random", "history"])
def test_a_checkpoint_that_lacks_a_part_is_refused_by_file_name(stopped, lacking):
    tensors, metadata = tensor_files.read_tensors(stopped / NAME)
    plain = json.loads(metadata["run"])
    (tensors if lacking in tensors else plain).pop(lacking)
    tensor_files.write_tensors(stopped / NAME, tensors, {"run": json.dumps(plain)})
    with pytest.raises(InferenceError, match=NAME):
        resume(stopped)


# -- a folder that cannot be written to -------------------------------------------------------------


@pytest.mark.parametrize("kind", [OSError(errno.ENOSPC, "No space left on device"), "safetensors"])
def test_a_full_disk_is_an_inference_error_and_the_earlier_checkpoint_still_loads(kind, tmp_path):
    settings = {"steps": 8, "checkpoint_every": 3}
    whole = fit(*a_pair(), KARATE, **settings)
    save_file, calls = tensor_files.save_file, []
    error = tensor_files.SafetensorError("disk full") if kind == "safetensors" else kind

    def full(tensors, path, metadata):
        calls.append(1)
        if len(calls) == 2:
            Path(path).write_bytes(b"half a file")
            raise error
        save_file(tensors, path, metadata)

    with (
        mock.patch.object(tensor_files, "save_file", full),
        pytest.raises(InferenceError, match=rf"cannot write .*{NAME}"),
    ):
        fit(*a_pair(), KARATE, folder=tmp_path, **settings)
    assert [p.name for p in tmp_path.iterdir()] == [NAME]
    assert_same_fit(whole, fit(*a_pair(), KARATE, folder=tmp_path, resume=True, **settings))


def test_a_file_in_place_of_the_folder_of_checkpoints_is_an_inference_error(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(InferenceError, match=r"cannot write to .*run"):
        fit(*a_pair(), KARATE, folder=tmp_path / "run", steps=2, checkpoint_every=1)


def test_a_file_in_place_of_the_folder_of_a_saved_fit_is_an_inference_error(tmp_path):
    (tmp_path / "run").write_text("a file")
    found = fit(*a_pair(), KARATE, steps=1)
    with pytest.raises(InferenceError, match="cannot write"):
        found.save(tmp_path / "run")


def test_something_in_the_way_of_the_partial_file_is_an_inference_error(tmp_path):
    """A folder stands where the partial file would: the earlier checkpoint is untouched."""
    settings = {"steps": 8, "checkpoint_every": 4}
    interrupted(KARATE, tmp_path, 4, **settings)
    before = (tmp_path / NAME).read_bytes()
    (tmp_path / f".checkpoint.{os.getpid()}.partial.safetensors").mkdir()
    with pytest.raises(InferenceError, match=rf"cannot write .*{NAME}"):
        fit(*a_pair(), KARATE, folder=tmp_path, **settings)
    assert (tmp_path / NAME).read_bytes() == before


# -- saved fits -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_features():
    x = np.random.default_rng(0).random((34, 6)) < 0.3
    return KARATE.hide([[0, 2], [1, 9]]).with_features(x.astype(float))


def _fits(with_features):
    yield fit(*a_pair(), KARATE, steps=4)
    story, guide = a_pair(
        with_features,
        {"inputs": "features", "feature_scaling": "tf-idf", "hidden": (6, 5), "layer_norm": True},
        features="bernoulli",
        num_features=6,
        sticks="local",
        class_weight="balanced",
        alpha=1.5,
    )
    yield fit(story, guide, with_features, steps=4, kl_weight=0.5, averaging=0.5, seed=9)


def test_a_saved_fit_has_the_same_posterior(with_features, tmp_path):
    for i, found in enumerate(_fits(with_features)):
        again = Fit.load(found.save(tmp_path / str(i)))
        assert_same_fit(found, again)
        assert again.history == found.history
        assert again.settings == found.settings
        assert again.environment == found.environment
        assert again.tempered == found.tempered
        assert again.graph.fingerprint() == found.graph.fingerprint()
        assert again.attributes() == found.attributes()
        assert torch.equal(
            again.link_probabilities(draws=7, seed=5), found.link_probabilities(draws=7, seed=5)
        )
        assert not torch.equal(
            again.link_probabilities(draws=7, seed=6), found.link_probabilities(draws=7, seed=5)
        )
        one, two = found.posterior(5, seed=2), again.posterior(5, seed=2)
        for group in ("posterior", "posterior_predictive", "log_likelihood", "observed_data"):
            assert getattr(one, group).drop_attrs().identical(getattr(two, group).drop_attrs())


def test_a_fit_made_relaxed_has_the_same_posterior_before_and_after_saving(tmp_path):
    """Story and guide made with a relaxation: what the fit says is of exact memberships, as the report states."""
    torch.manual_seed(3)
    story = DGLFRM(34, 4, decoder=(), bias="global", relaxation=Concrete(0.5))
    guide = StructuredMeanField(story, KARATE, hidden=(8,), relaxation=Concrete(0.5))
    found = fit(story, guide, KARATE, steps=3, gradient="concrete")
    again = Fit.load(found.save(tmp_path))
    assert torch.equal(found.link_probabilities(draws=5), again.link_probabilities(draws=5))


def test_the_files_of_a_saved_fit(tmp_path):
    found = fit(*a_pair(), KARATE, steps=2)
    assert found.save(tmp_path / "a" / "run") == tmp_path / "a" / "run"
    names = {"settings.json", "weights.safetensors", "history.json", "graph.npz"}
    assert {p.name for p in (tmp_path / "a" / "run").iterdir()} == names
    settings = json.loads((tmp_path / "a" / "run" / "settings.json").read_text())
    assert settings["story"]["name"] == "DGLFRM"
    assert settings["guide"]["name"] == "StructuredMeanField"
    assert settings["fit"]["steps"] == 2
    assert settings["graph"] == {"title": "karate", "fingerprint": KARATE.fingerprint()}


def test_saving_again_replaces_what_was_there(tmp_path):
    fit(*a_pair(), KARATE, steps=2).save(tmp_path)
    second = fit(*a_pair(), KARATE, steps=3, seed=4)
    second.save(tmp_path)
    assert_same_fit(second, Fit.load(tmp_path))
    assert not list(tmp_path.glob("*.partial"))


@pytest.fixture
def saved(tmp_path):
    return fit(*a_pair(), KARATE, steps=1).save(tmp_path)


@pytest.mark.parametrize("name", ["settings.json", "weights.safetensors", "history.json"])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(InferenceError, match=rf"no file .*{name}"):
        Fit.load(saved)


@pytest.mark.parametrize("name", ["settings.json", "history.json"])
@pytest.mark.parametrize("text", [b'{"story": ', b"", b"\xff\xfe\x00"])
def test_a_damaged_json_file_is_named(saved, name, text):
    (saved / name).write_bytes(text)
    with pytest.raises(InferenceError, match=rf"{name} is damaged"):
        Fit.load(saved)


def _edit(saved, change):
    settings = json.loads((saved / "settings.json").read_text())
    change(settings)
    del settings["sha256"]  # meant, as the message says to do
    (saved / "settings.json").write_text(json.dumps(settings))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.pop("story"), "story"),
        (lambda s: s.pop("best_step"), "best_step"),
        (lambda s: s["story"].update(colour=1), "colour"),
        (lambda s: s["guide"].update(name="Oracle"), "Oracle"),
        (lambda s: s["fit"].update(stepz=1), "stepz"),
        (lambda s: s["story"].update(truncation=0), "truncation"),
        (lambda s: s.update(story=None), "a value is of a wrong kind"),
    ],
)
def test_settings_that_describe_no_fit_are_refused(saved, change, says):
    _edit(saved, change)
    with pytest.raises(InferenceError, match=rf"settings.json does not describe a fit: .*{says}"):
        Fit.load(saved)


def test_weights_of_another_shape_are_refused_by_file_name(saved):
    _edit(saved, lambda s: s["story"].update(truncation=5))
    with pytest.raises(InferenceError, match=r"weights.safetensors does not fit settings.json"):
        Fit.load(saved)


def test_damaged_weights_are_refused_by_file_name(saved):
    file = saved / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(InferenceError, match=r"weights.safetensors is damaged"):
        Fit.load(saved)


def test_a_folder_that_is_no_fit_is_refused(tmp_path):
    with pytest.raises(InferenceError, match=r"is .* the folder of a fit"):
        Fit.load(tmp_path)


@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_a_graph_file_that_is_missing_or_damaged_is_an_inference_error_as_promised(saved, how):
    file = saved / "graph.npz"
    file.write_bytes(b"noise") if how == "damaged" else file.unlink()
    with pytest.raises(InferenceError, match=r"graph.npz"):
        Fit.load(saved)


def test_a_half_written_graph_never_replaces_the_one_before(saved):
    """As for every file of a fit: the new one is whole or the old one stays."""
    before = (saved / "graph.npz").read_bytes()

    def full(file, **_):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    found = Fit.load(saved)
    with (
        mock.patch.object(np, "savez_compressed", full),
        pytest.raises((InferenceError, ValueError)),
    ):
        found.save(saved)
    assert (saved / "graph.npz").read_bytes() == before


def test_a_graph_that_cannot_be_written_is_an_inference_error(saved):
    found = Fit.load(saved)
    (saved / "graph.npz").unlink()
    (saved / "graph.npz").mkdir()
    with pytest.raises(InferenceError, match="cannot write"):
        found.save(saved)


def test_a_pickle_in_place_of_any_file_is_not_run(saved):
    """Loading code would leave a mark: no file of a fit is unpickled."""
    import pickle

    mark = saved / "mark"

    class Trap:
        def __reduce__(self):
            return Path.touch, (mark,)

    for name in ("settings.json", "history.json", "weights.safetensors", "graph.npz"):
        original = (saved / name).read_bytes()
        (saved / name).write_bytes(pickle.dumps(Trap()))
        with pytest.raises((InferenceError, ValueError)):
            Fit.load(saved)
        (saved / name).write_bytes(original)
    (saved / NAME).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InferenceError):
        resume(saved)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Trap()))
    assert mark.exists(), "the trap itself works"


def test_no_source_file_unpickles():
    folder = Path(graphlore.__file__).parent
    files = [p for r in (*graphlore._ROOMS, "cli") for p in (folder / r).glob("*.py")]
    assert len(files) > 30
    bad = re.compile(
        r"import (pickle|dill|joblib|marshal|shelve)|from (pickle|dill|joblib)|torch\.load"
        r"|allow_pickle=True|read_pickle|yaml\.load"
    )
    assert [f.name for f in files if bad.search(f.read_text(encoding="utf-8"))] == []


def test_a_graph_with_names_and_missing_dyads_comes_back(tmp_path):
    graph = Graph(5, [[0, 1, 2], [1, 2, 3]], names=list("abcde"), missing=[[0], [4]], title="t")
    story, guide = a_pair(graph)
    again = Fit.load(fit(story, guide, graph, steps=1).save(tmp_path)).graph
    assert (again.names, again.title) == (tuple("abcde"), "t")
    assert again.missing.tolist() == [[0], [4]]

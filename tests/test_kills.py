"""A fit that is killed and resumed is the fit that ran through, to the bit; ``make proof`` does so 30 times."""

from __future__ import annotations

import pytest
import torch
from proof.kills import rounds

from graphlore.data import cycles
from graphlore.guides import Destructor
from graphlore.inference import InferenceError, fit_ordered, fit_sequential, seeded
from graphlore.models import SGGN, SGVAE

GRAPHS = cycles(6, [3, 4], seed=0)


def test_a_fit_that_is_killed_three_times_is_the_fit_that_ran_through():
    (found,) = rounds("blocks summed out, removal moves", 1, 2)
    assert found.differs == []
    assert len(found.kills) == 3
    assert found.resumed


class Stop(Exception):
    pass


def sequential(folder=None, resume=False, at=None, epochs=5, graphs=GRAPHS):
    with seeded(0):
        story = SGVAE(hidden=4, rounds=1)
        guide = Destructor(story)

    def stop(epoch, _):
        if epoch == at:
            raise Stop

    options = {"folder": folder, "resume": resume, "callback": stop, "checkpoint_every": 2}
    settings = {"epochs": epochs, "batch_size": 4, "orders": 2, "warmup": 2}
    found = fit_sequential(story, guide, graphs, **settings, **options)
    return found.pair.state_dict(), found.history


def ordered(folder=None, resume=False, at=None, epochs=5, graphs=GRAPHS):
    with seeded(0):
        story = SGGN(4, rounds=1)

    def stop(epoch, _):
        if epoch == at:
            raise Stop

    options = {"folder": folder, "resume": resume, "callback": stop, "checkpoint_every": 2}
    found = fit_ordered(story, graphs, "random", epochs=epochs, batch_size=4, **options)
    return story.state_dict(), found.history


@pytest.mark.parametrize("fit", [sequential, ordered])
def test_a_fit_to_many_graphs_resumes_to_the_same_bits(fit, tmp_path):
    weights, history = fit()
    with pytest.raises(InferenceError, match=r"no file .*checkpoint.safetensors"):
        fit(tmp_path, resume=True)
    with pytest.raises(ValueError, match="resume=True needs the folder"):
        fit(resume=True)
    with pytest.raises(Stop):
        fit(tmp_path, at=3)
    for _ in range(2):  # after an interruption, and when all is done
        again, told = fit(tmp_path, resume=True)
        assert again.keys() == weights.keys()
        assert all(torch.equal(weights[k], again[k]) for k in weights)
        assert {k: v for k, v in told.items() if k != "seconds"} == {
            k: v for k, v in history.items() if k != "seconds"
        }
        assert len(told["seconds"]) == 5
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.safetensors"]


@pytest.mark.parametrize("fit", [sequential, ordered])
def test_a_checkpoint_of_another_fit_to_many_graphs_is_refused(fit, tmp_path):
    fit(tmp_path)
    with pytest.raises(InferenceError, match=r"other settings \(epochs\)"):
        fit(tmp_path, resume=True, epochs=6)
    with pytest.raises(InferenceError, match="of other graphs"):
        fit(tmp_path, resume=True, graphs=GRAPHS[:5])
    other = ordered if fit is sequential else sequential
    with pytest.raises(InferenceError, match=r"other settings|another story"):
        other(tmp_path, resume=True)

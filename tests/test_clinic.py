"""Every case of the clinic is found by its check, which has nothing to say about the healthy run."""

import json
import math
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import minidiff as md
from minidiff.clinic import CASES, Clinic, Healthy, checks, table, train
from minidiff.clinic.cases import AfterMid, Blocky, ColdAverage, StopsEarly, WholeBatchDrop, WrongSign, ZeroToOne
from minidiff.diffusion import samplers
from minidiff.errors import BadInput

ROOT = Path(__file__).resolve().parents[1]
BROKEN = {name: case for name, case in CASES.items() if case.find}
CHECKS = sorted({case.find for case in BROKEN.values()}, key=lambda check: check.__name__)
ALSO = {"by-position": {checks.hears_the_step}}  # a step that is overwritten is not heard
QUICK = [check for check in CHECKS if check is not checks.hears_the_class]


@lru_cache
def finding(check, case):
    return check(case())


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_check_passes_the_healthy_run(check):
    assert finding(check, Healthy).healthy, finding(check, Healthy).seen


@pytest.mark.parametrize("name", BROKEN)
def test_a_case_is_found_by_its_check(name):
    found = finding(BROKEN[name].find, BROKEN[name])
    assert not found.healthy, found.seen


@pytest.mark.parametrize("name", CASES)
def test_a_case_breaks_one_thing_and_no_other_check_complains(name):
    complaints = {check for check in QUICK if not finding(check, CASES[name]).healthy}
    assert complaints == {CASES[name].find} & set(QUICK) | ALSO.get(name, set())


def test_what_is_no_failure_passes_all_checks():
    assert [name for name, case in CASES.items() if case.find is None] == ["healthy", "eps", "rescaled-linear"]


def test_a_case_says_what_is_wrong_what_it_looks_like_and_the_cure():
    for name, case in BROKEN.items():
        assert case.name == name and case.wrong != Healthy.wrong and case.looks != Healthy.looks and case.cure, name
        assert case.__doc__ and case.find.__doc__, name


# ---------------------------------------------------------------------------------------- the broken parts


def test_the_best_answer_that_is_constant_on_2x2_patches_explains_a_quarter_of_the_noise(rng):
    eps = rng.standard_normal((64, 16, 2, 16, 2))
    best = eps.mean((2, 4), keepdims=True)
    n = 64 * 16 * 16
    assert ((eps - best) ** 2).mean() == pytest.approx(0.75, abs=4 * math.sqrt(6 / 16 / n))  # ¼ of a χ² with 3 degrees
    for other in (0.9 * best, best + 0.1, eps[:, :, :1, :, :1]):
        assert ((eps - other) ** 2).mean() > ((eps - best) ** 2).mean()


def test_the_blocky_network_cannot_learn_even_one_picture_by_heart():
    """A healthy network's loss for one picture and one noise falls far below the floor in 40 steps."""

    def after(case):
        model = case.build(channels=(16, 32), patch=2)
        x0 = md.data.to_model(md.data.load("glyphs", limit=1).images)
        optimizer = md.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
        for _ in range(40):
            loss = md.diffusion.loss(model, case.road(), x0, np.array([3]), np.random.default_rng(0), drop=0.0)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return loss.item()

    eps = np.random.default_rng(0)
    eps.integers(1, 101, 1)  # the step, which is drawn first
    noise = eps.standard_normal((1, 1, 32, 32), dtype=np.float32).reshape(16, 2, 16, 2)
    floor = ((noise - noise.mean((1, 3), keepdims=True)) ** 2).mean()
    assert 0.7 < floor < 0.8 and after(Blocky()) >= floor - 1e-6
    assert after(CASES["eps"]()) < 0.5 * floor


def test_the_wrong_sign_is_put_right_again_afterwards():
    before = samplers.guided_output
    WrongSign().sample(checks.Believes(0.2, -0.2), np.arange(2), guidance=1.0)
    assert samplers.guided_output is before


def test_stopping_early_leaves_the_noise_of_the_last_step():
    """At the last stop t the picture is √ᾱ_t x0 + √(1 − ᾱ_t) ε, if the network is sure of x0."""
    road = Healthy().road()
    t = md.diffusion.time_steps(100, 25)[-2]
    drawn = StopsEarly().sample(checks.Believes(0.5, 0.5), np.arange(40) % 10)
    assert drawn.mean() == pytest.approx(road.signal[t] * 0.5, abs=0.01)
    assert drawn.std() == pytest.approx(road.noise[t], rel=0.05)


def test_batches_lose_as_many_labels_in_the_mean(rng):
    """That is why the loss does not tell: the rate is right."""
    labels = np.zeros(32, int)
    lost = [np.mean([(case.drop(labels, rng) == -1).mean() for _ in range(3000)]) for case in (Healthy(), WholeBatchDrop())]
    assert lost == pytest.approx([0.1, 0.1], abs=0.025)


def test_pictures_go_to_the_other_range_and_back(rng):
    x0, case = rng.uniform(-1, 1, (2, 1, 4, 4)), ZeroToOne()
    assert case.prepare(x0).min() >= 0 and np.allclose(case.present(case.prepare(x0)), x0)


def test_the_cold_average_is_a_third_fresh_weights_after_1000_steps():
    model = md.nn.Linear(1, 1)
    model.weight.data[...] = 0
    ema = ColdAverage().average(model)
    model.weight.data[...] = 1
    for _ in range(1000):
        ema.update()
    assert 1 - ema.average["weight"].item() == pytest.approx(0.999**1000, rel=1e-3) == pytest.approx(0.368, abs=1e-3)


# ---------------------------------------------------------------------------------------- measuring


class Small(Healthy):
    network = {**Healthy.network, "channels": (8, 16)}


def test_training_is_repeatable_and_lowers_the_loss():
    digits = md.data.load("glyphs", limit=256)
    first, second = (train(Small(), digits, 12) for _ in range(2))
    assert first.losses == second.losses and np.mean(first.losses[-3:]) < np.mean(first.losses[:3])


def test_cases_of_sampling_share_the_healthy_network(monkeypatch):
    for case in (Healthy, WrongSign, AfterMid):
        monkeypatch.setattr(case, "network", {**case.network, "channels": (8, 16)})
    clinic = Clinic("glyphs", steps=2, per_class=1)
    clinic.has_mnist = False
    results = [clinic.run(name) for name in ("healthy", "wrong-sign", "after-mid")]
    assert list(clinic._trained) == ["healthy", "after-mid"]
    assert results[0].loss == results[1].loss != results[2].loss
    assert not np.array_equal(results[0].images, results[1].images)
    lines = table(results).splitlines()
    assert "Fréchet" not in lines[0] and lines[2].startswith("wrong-sign  guidance with the wrong sign") and "leans_to_the_class" in lines[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data_name": "cifar10"}, "clinic: data must be mnist or glyphs, which the judge can read; got 'cifar10'"),
        ({"steps": 0}, "clinic: steps must be 1 or more, got 0"),
        ({"per_class": 0}, "clinic: per_class must be 1 or more, got 0"),
    ],
)
def test_the_clinic_says_what_is_wrong(options, message):
    with pytest.raises(BadInput) as error:
        Clinic(**{"data_name": "glyphs", **options})
    assert str(error.value) == message


# ---------------------------------------------------------------------------------------- the program


def run(*arguments, folder, **changes):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", **changes}
    return subprocess.run([sys.executable, str(ROOT / "examples" / "clinic.py"), *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_the_program_writes_table_record_and_figure_and_does_without_mnist(tmp_path, monkeypatch):
    monkeypatch.delenv("MINIDIFF_DATA", raising=False)
    if md.data.find_mnist() is not None:
        pytest.skip("MNIST is in the cache")
    done = run("--case", "stops-early", "--data", "glyphs", "--steps", "2", "--per-class", "1", "--json", "c.json", "--figure", "c.png", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("MNIST is not at hand (minidiff data fetch mnist gets it): no Fréchet distances\n")
    record = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))
    assert list(record["cases"]) == ["healthy", "stops-early"] and record["frechet"] is None
    assert record["cases"]["stops-early"]["check"]["healthy"]["passed"] and not record["cases"]["stops-early"]["check"]["broken"]["passed"]
    assert "\nstops-early  the last denoising step is left out" in done.stdout
    with Image.open(tmp_path / "c.png") as drawn:
        assert drawn.width > 600


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--case", "flu"), f"clinic: there is no case 'flu'; there are {', '.join(CASES)}"),
        (("--json", "no/c.json"), "clinic: --json no/c.json: there is no folder no"),
    ],
)
def test_the_program_says_what_is_wrong_in_one_line(arguments, message, tmp_path):
    done = run(*arguments, folder=tmp_path)
    assert (done.returncode, done.stderr.strip()) == (1, message)

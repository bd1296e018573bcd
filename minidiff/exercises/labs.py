"""Training scripts with one fault each: name it, and repair it.

`lab_script.py` is the script as it should be. Each lab is a change of its text, which makes of it a case of the clinic; and
the clinic's checks, which tell each case without a training, say whether a repaired script is healthy.
"""

from __future__ import annotations

import contextlib
import difflib
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from .. import models
from ..clinic import CASES, Healthy
from ..clinic.healthy import Check, Finding
from ..data import Dataset
from ..diffusion import make_schedule
from ..errors import BadInput
from .marking import FAILED, PASSED, TODO, WRONG, Verdict
from .task import Slip, changed

FAULTS: dict[str, tuple[str, str]] = {
    "stops-early": ("times = md.diffusion.time_steps(road.T, steps)", "times = md.diffusion.time_steps(road.T, steps)[:-1]"),
    "zero-to-one": ("return 2 * pictures - 1", "return pictures"),
    "after-mid": ('"condition": "film"', '"condition": "after-mid"'),
    "wrong-sign": ("(1 + w) * cond - w * uncond", "(1 - w) * cond + w * uncond"),
    "no-skips": ('"skips": True', '"skips": False'),
    "shuffled-labels": ("return images[order], labels[order]", "return images[order], labels"),
    "cold-average": ("md.optim.EMA(model, decay=0.99)", "md.optim.EMA(model, decay=0.999, warmup=False)"),
    "by-position": ("return model(xt, t, labels)", "return model(xt, np.arange(1, len(xt) + 1), labels)"),
    "short-linear": ('"name": "cosine", "T": 100', '"name": "linear", "T": 100'),
    "unclipped": ("np.clip(md.diffusion.predict_x0(road, xt, t, answer, model.target), -1, 1)", "md.diffusion.predict_x0(road, xt, t, answer, model.target)"),
    "batch-drop": ("np.where(rng.random(len(labels)) < 0.1, -1, labels)", "np.full_like(labels, -1) if rng.random() < 0.1 else labels"),
    "blocky": ("return model(xt, t, labels)", "return F.interpolate(F.avg_pool2d(model(xt, t, labels), 2), scale_factor=2)"),
    "raw-weights": ("return ema.applied()", "return md.no_grad()"),
    "no-clock": ('"clock": True', '"clock": False'),
    "before-mid": ('"condition": "film"', '"condition": "before-mid"'),
}  # fmt: skip
LABS: dict[str, str] = {f"lab_{i:02}": fault for i, fault in enumerate(FAULTS, 1)}            # which is nobody's business


def find_lab(given: str) -> str:
    """The lab of this name, number, file or fault. Raises BadInput."""
    text = Path(given).stem
    if text in FAULTS:
        return next(lab for lab, fault in LABS.items() if fault == text)
    number = text.removeprefix("lab_").removeprefix("lab-")
    lab = f"lab_{int(number):02}" if number.isdecimal() else text
    if lab not in LABS:
        raise BadInput(f"exercises: there is no lab {given!r}; there are lab_01 to lab_{len(LABS):02}")
    return lab


def is_lab(given: str) -> bool:
    """Whether a name or a file is meant to be a lab's."""
    return Path(given).stem.startswith("lab_")


def healthy_text() -> str:
    """The training script without a fault."""
    return Path(__file__).with_name("lab_script.py").read_text(encoding="utf-8")


def lab_text(lab: str) -> str:
    """The learner's file."""
    names = "\n".join(f"    {name:<16} {CASES[name].wrong.removesuffix(' (target ε)')}" for name in sorted(FAULTS))
    head = f'''"""{lab}: this script trains a small diffusion model and draws eight digits of each kind. One thing in it is wrong.

Run it, look at lab.png, read it. Then name the fault here, repair it below, and

    minidiff exercises check {lab}

The faults that there are:

{names}
"""

FAULT = ""

'''
    return head + changed(healthy_text(), Slip(*FAULTS[LABS[lab]], ""))


def lab_hints(lab: str) -> tuple[str, str, str]:
    """What it looks like, which check complains, the cure."""
    case = CASES[LABS[lab]]
    seen = case.find(case_of(lab_text(lab), lab)).seen                                       # type: ignore[misc]
    return f"what it draws: {case.looks}", f"the clinic's check {case.find.__name__} complains: {seen}", f"the cure: {case.cure}"  # type: ignore[union-attr]


def lab_solution(lab: str) -> str:
    """The fault's name, its line, and what the line should be."""
    right, wrong = FAULTS[LABS[lab]]
    return f'FAULT = "{LABS[lab]}"            {CASES[LABS[lab]].wrong}\n\n    {wrong}\nshould be\n    {right}'


# ------------------------------------------------------------------------------------- the script as a case


def case_of(text: str, where: str) -> Healthy:
    """A script as a case of the clinic: each of its functions is a part of it. Raises whatever the script raises."""
    names: dict[str, Any] = {"__name__": "lab", "__file__": where}
    exec(compile(text, where, "exec"), names)
    script = SimpleNamespace(**names)

    class UNet(models.UNet):
        def forward(self, x: Any, t: Any, labels: Any) -> Any:                               # type: ignore[override]
            return script.ask(super().forward, x, t, labels)

    class Lab(Healthy):
        unet, network, schedule = UNet, {**script.NETWORK}, {**script.SCHEDULE}

        def road(self) -> Any:
            return make_schedule(**script.SCHEDULE)

        def dataset(self, dataset: Dataset) -> Dataset:
            return Dataset(dataset.name, *script.pairs(dataset.images, dataset.labels), dataset.classes)

        def prepare(self, x0: np.ndarray) -> np.ndarray:
            return script.prepare((x0 + 1) / 2)

        def drop(self, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
            return script.drop(labels, rng)

        def average(self, model: Any) -> Any:
            return script.average(model)

        def weights(self, ema: Any) -> contextlib.AbstractContextManager[Any]:
            return script.weights(ema.model, ema)

        def sample(self, model: Any, labels: np.ndarray, **options: Any) -> np.ndarray:
            return script.sample(model, labels, **options)

    lab = Lab()
    lab.fault = script.FAULT if hasattr(script, "FAULT") else ""                             # type: ignore[attr-defined]
    return lab


def checks() -> list[Check]:
    """The clinic's checks, the slow one last."""
    found = {case.find: None for case in (CASES[name] for name in FAULTS)}
    return sorted(found, key=lambda check: check.__name__ == "hears_the_class")              # type: ignore[union-attr, return-value]


def mark_lab(lab: str, path: Path) -> Verdict:
    """The verdict on a learner's lab: is the fault named, and is it gone?"""
    verdict, fault = partial(Verdict, lab), LABS[lab]
    try:
        case = case_of(path.read_text(encoding="utf-8"), str(path))
    except SyntaxError as error:
        return verdict(FAILED, line=f"line {error.lineno} of {path.name}: {(error.text or '').strip()}", cause=f"SyntaxError: {error.msg}")
    except (Exception, SystemExit) as error:
        return verdict(FAILED, cause=f"{type(error).__name__}: {error}")
    named = case.fault                                                                       # type: ignore[attr-defined]
    if not named:
        return verdict(TODO)
    if named not in FAULTS:
        near = difflib.get_close_matches(str(named), FAULTS, 1)
        return verdict(WRONG, place="FAULT", got=str(named), cause=f"there is no such fault{f'; did you mean {near[0]}?' if near else ''}")
    if named != fault:
        return verdict(WRONG, place="FAULT", got=named, cause=_not_it(lab, named))
    for check in checks():
        try:
            finding = check(case)
        except Exception as error:
            return verdict(FAILED, case=check.__name__, cause=f"{type(error).__name__}: {error}")
        if not finding.healthy:
            return verdict(WRONG, case=f"{check.__name__}: {_first(check)}", got=finding.seen, cause="the fault is named rightly, and is still there")
    return verdict(PASSED, len(checks()))


def _not_it(lab: str, named: str) -> str:
    """Why the fault that was named is not this lab's: what its check says of the script as it was given out."""
    check = CASES[named].find
    finding: Finding = check(case_of(lab_text(lab), lab))                                    # type: ignore[misc]
    if finding.healthy:
        return f"the clinic's check for it, {check.__name__}, is content: {finding.seen}"     # type: ignore[union-attr]
    return f"it is something near: {check.__name__} does complain ({finding.seen})"           # type: ignore[union-attr]


def _first(check: Any) -> str:
    return (check.__doc__ or "").partition("\n")[0]

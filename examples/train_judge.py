"""Train the judge: the classifier that says whether a sample shows the digit that was asked for.

    python examples/train_judge.py                           # MNIST from MINIDIFF_DATA, the cache, or a mirror
    python examples/train_judge.py --epochs 2 --out my.npz   # quicker, and worse
    python examples/train_judge.py --test judge.npz          # no training: how good is this one, and how sure?

Five epochs on real MNIST, each image shifted by up to two pixels, turned by up to 10 degrees and
resized by up to a tenth, end above 99 % on the test set (chapters/results/judge-train.json). The file
it writes is of the kind that `minidiff evaluate` uses.

One half of the test digits then sets the temperature that makes the judge as often right as it is sure; the other half
says how well that has gone.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from tqdm import tqdm

import minidiff as md
import minidiff.nn.functional as F
from minidiff import evaluate
from minidiff.errors import BadInput
from minidiff.evaluate.calibration import tempered
from minidiff.evaluate.judge import Judge, load_judge, save_judge
from minidiff.models.classifier import Classifier
from minidiff.train import records
from minidiff.train.folder import check_writable


def augment(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each digit a little shifted, turned and resized, since people write that way.  # (N,28,28) uint8"""
    out = np.empty_like(images)
    for i, image in enumerate(images):
        angle, zoom = np.deg2rad(rng.uniform(-10, 10)), rng.uniform(0.9, 1.1)
        matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
        centre = np.array([13.5, 13.5])
        offset = centre - matrix @ (centre + rng.uniform(-2, 2, 2))
        ndimage.affine_transform(image, matrix, offset, output=out[i], order=1)
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="train on the first N images only")
    parser.add_argument("--out", help="file of the judge (default: judge.npz; with --test: none is written)")
    parser.add_argument("--test", metavar="FILE", help="do not train: test this judge, or `bundled`; with --out, write it there with its temperature")
    parser.add_argument("--record", help="write how it went to this JSON file")
    args = parser.parse_args()
    try:
        check(args)
        test_only(args) if args.test else teach(args)
    except BadInput as error:
        print(f"train_judge: {error}", file=sys.stderr)
        return 2
    return 0


def check(args: argparse.Namespace) -> None:
    """Refuse at once what would be missed after minutes of training."""
    for name in ("epochs", "batch", "limit"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise BadInput(f"--{name} must be at least 1, got {value}")
    if not args.test and args.out is None:
        args.out = "judge.npz"
    for path in filter(None, (args.out, args.record)):
        check_writable(Path(path).parent)


def test_only(args: argparse.Namespace) -> None:
    """Say how good a judge is; write it only where that is asked for."""
    judge, test = load_judge(None if args.test == "bundled" else args.test), md.data.load(args.data, "test")
    found = tested(judge.model, test)
    if args.out:
        save_judge(judge.model, args.out, found["test_accuracy"], found["temperature"])
    finish(args, found)


def teach(args: argparse.Namespace) -> None:
    """Train a judge from nothing, test it and write it."""
    train, test = md.data.load(args.data, "train", limit=args.limit), md.data.load(args.data, "test")
    if len(train) < args.batch:
        raise BadInput(f"--batch {args.batch}: there are {len(train)} images to train on, which do not fill one")
    md.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    model = Classifier()
    optimizer = md.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.02)
    steps = args.epochs * (len(train) // args.batch)
    schedule = md.optim.CosineLR(optimizer, steps, warmup_steps=min(200, steps // 10))
    ema = md.optim.EMA(model, decay=0.998)
    print(f"{model.num_parameters():,} parameters, {len(train):,} images, {steps:,} steps")

    start, history = time.perf_counter(), []
    for epoch in range(1, args.epochs + 1):
        order = rng.permutation(len(train))
        losses = []
        for k in tqdm(range(len(train) // args.batch), desc=f"epoch {epoch}", leave=False):
            picked = order[k * args.batch : (k + 1) * args.batch]
            x = md.data.to_model(augment(train.images[picked], rng), size=28)
            loss = F.cross_entropy(model(x), train.labels[picked])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            ema.update()
            losses.append(loss.item())
        with ema.applied():
            accuracy = test_accuracy(model, test)
        model.train()
        history.append({"epoch": epoch, "loss": float(np.mean(losses)), "test_accuracy": accuracy})
        print(f"epoch {epoch:2}  loss {np.mean(losses):.4f}  test accuracy {accuracy:.2%}  {time.perf_counter() - start:.0f} s")

    with ema.applied():
        found = tested(model, test)
        save_judge(model, args.out, accuracy, found["temperature"])
    finish(args, {"seconds": time.perf_counter() - start, "epochs": history, **found})


def finish(args: argparse.Namespace, found: dict[str, Any]) -> None:
    """Say what was found, and record it if that is wanted."""
    print(f"{found['test_accuracy']:.2%} of {found['n']:,} test digits; most often mistaken: {found['most_often_mistaken']}")
    print(f"temperature {found['temperature']:.2f}: sure and right differ by {found['calibration_error']:.2%}, before by {found['calibration_error_before']:.2%}")
    if args.out:
        print(f"wrote {args.out}")
    if args.record:
        records.write_json(args.record, {
            "command": records.command_line(), "commit": records.commit(), "time": records.now(),
            "machine": records.machine("cpu", md.get_num_threads()), "versions": records.versions(), "settings": vars(args), **found,
        })  # fmt: skip


def tested(model: Classifier, test: md.data.Dataset) -> dict[str, Any]:
    """How often the judge is right, what it takes for what, and whether it is as often right as it is sure."""
    scores = Judge(model).scores(md.data.to_model(test.images, size=28))
    confusion = evaluate.confusion_matrix(test.labels, scores.argmax(1), len(test.classes))
    wrong = confusion - np.diag(confusion.diagonal())
    a, b = np.unravel_index(wrong.argmax(), wrong.shape)
    half, other = slice(0, None, 2), slice(1, None, 2)
    temperature = evaluate.fit_temperature(scores[half], test.labels[half])
    before, after = (evaluate.calibration(tempered(scores[other], t), test.labels[other]) for t in (1.0, temperature))
    return {
        "n": len(test), "test_accuracy": float(confusion.trace() / confusion.sum()), "confusion": confusion.tolist(),
        "most_often_mistaken": f"{a} for {b}, {wrong[a, b]} times", "temperature": temperature,
        "calibration_error_before": before.error, "calibration_error": after.error,
    }  # fmt: skip


def test_accuracy(model: Classifier, test: md.data.Dataset) -> float:
    """The share of test digits that the model names rightly."""
    named = Judge(model).classify(md.data.to_model(test.images, size=28))
    return float((named == test.labels).mean())


if __name__ == "__main__":
    sys.exit(main())

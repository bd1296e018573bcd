"""Draw digits with a trained model: a sheet with a row for each class, and a film of how they came out of noise.

    python examples/sample_grid.py trained/model.npz               a file, or the folder of a run
    python examples/sample_grid.py mnist                           a model that comes with minidiff
    python examples/sample_grid.py mnist --classes 3,7 --per-class 5 --sampler ddpm --guidance 1 --seed 4

Writes digits.png and digits.gif into the output folder. The same seed gives the same digits.
"""

import argparse
from pathlib import Path

import numpy as np

import minidiff as md
from minidiff import viz
from minidiff.train import load_model


class Film:
    """Keeps x_t as the sampler passes by: `frames[k]` are all N pictures after step k + 1."""

    def __init__(self, count, shape, steps):
        self.frames = np.zeros((steps, count, *shape), np.float32)

    def __call__(self, step, s, xs, x0_hat, indices):
        self.frames[step - 1, indices] = xs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a checkpoint, a run's folder, or the name of a bundled model")
    parser.add_argument("--classes", help="by name, like 3,7 or 0-4; default: all")
    parser.add_argument("--per-class", type=int, default=8)
    parser.add_argument("--sampler", choices=md.diffusion.SAMPLERS, default="ddim")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("drawn"))
    args = parser.parse_args()

    loaded = load_model(args.model)
    steps = min(args.steps, loaded.schedule.T)
    wanted = md.data.find_classes("sample", args.classes, loaded.classes) if args.classes else range(len(loaded.classes))
    labels = np.repeat(np.array(wanted), args.per_class)
    print(f"{loaded.path}: {loaded.model.num_parameters():,} parameters; drawing {len(labels)} digits in {steps} steps")

    config = loaded.model.config
    film = Film(len(labels), (config["in_channels"], config["image_size"], config["image_size"]), steps)
    images = md.diffusion.sample(loaded.model, loaded.schedule, labels, sampler=args.sampler, steps=steps,
                                 guidance=args.guidance, seed=args.seed, callback=film)  # fmt: skip

    sheet = viz.class_grid(images, labels, loaded.classes)
    print(f"drawn {viz.save(sheet, args.out / 'digits.png')}")
    print(f"drawn {viz.animation(film.frames, args.out / 'digits.gif', columns=args.per_class)}")


if __name__ == "__main__":
    try:
        main()
    except md.BadInput as error:
        raise SystemExit(f"sample_grid: {error}") from None

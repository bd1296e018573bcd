"""What a trained model does with digits that are there already: repair, complete, redraw, send there and back, blend.

    python examples/edit_digits.py                              the bundled model, real digits if they are here, drawn ones if not
    python examples/edit_digits.py --data glyphs --sigma 1 --strength 0.6 --seed 4
    python examples/edit_digits.py trained/model.npz --steps 25

Writes edits.png into the output folder, and prints how far each edit comes from the digits that went in. The same seed gives
the same sheet.
"""

import argparse
from pathlib import Path

import numpy as np

import minidiff as md
from minidiff import data, viz
from minidiff.train import load_model


def digits(name, size):
    """The first two test digits of each class.            # -> (20,1,size,size), 0 … 9 twice"""
    test = data.load(name, "test", limit=1000)
    order = [np.flatnonzero(test.labels == c)[k] for k in range(2) for c in range(10)]
    return data.to_model(test.images[order], size)


def distance(a, b):
    """The root of the mean squared difference: 2 is from black to white."""
    return float(np.sqrt(np.square(a - b).mean()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="mnist", help="a checkpoint, a run's folder, or the name of a bundled model")
    parser.add_argument("--data", choices=("mnist", "fashion-mnist", "glyphs"), help="default: mnist if its files are here, glyphs if not")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--sigma", type=float, default=0.7, help="noise to repair, in units of a pixel's range of -1 … 1")
    parser.add_argument("--strength", type=float, default=0.7, help="of redrawing: 0 leaves all, 1 nothing")
    parser.add_argument("--resample", type=int, default=4, help="how often each step of completing is gone once more")
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("edited"))
    args = parser.parse_args()

    loaded = load_model(args.model)
    model, schedule, size = loaded.model, loaded.schedule, loaded.model.config["image_size"]
    name = args.data or ("mnist" if data.find_mnist() else "glyphs")
    both, labels = digits(name, size), np.arange(10)
    x, steps = both[:10], min(args.steps, schedule.T)
    how = dict(steps=steps, guidance=args.guidance, seed=args.seed)
    print(f"{args.model}: {model.num_parameters():,} parameters; editing ten digits of {name} in {steps} steps")

    def tell(what, a, b):
        print(f"{what:42s} {distance(a, b):.3f}")

    noisy = x + args.sigma * np.random.default_rng(args.seed).standard_normal(x.shape).astype(np.float32)
    repaired = md.diffusion.denoise(model, schedule, noisy, labels, args.sigma, **how)
    tell(f"noise of {args.sigma:g}, before repair", noisy, x)
    tell("after", repaired, x)

    known = np.arange(size)[:, None] < size // 2                              # the upper half
    completed = md.diffusion.inpaint(model, schedule, x, known, labels, resample=args.resample, **how)
    tell("upper half, completed: above", completed[..., : size // 2, :], x[..., : size // 2, :])
    tell("below", completed[..., size // 2 :, :], x[..., size // 2 :, :])

    redrawn = md.diffusion.image_to_image(model, schedule, x, labels, args.strength, **how)
    tell(f"redrawn at strength {args.strength:g}", redrawn, x)

    climb = dict(steps=max(1, steps // 2), sampler="heun")                    # which asks twice a step
    noise = md.diffusion.invert(model, schedule, x, labels, seed=args.seed, **climb)
    back = md.diffusion.decode(model, schedule, noise, labels, **climb)
    tell("there and back", back, x)

    # From a digit to another of its class, and to one of another class: no one label describes what lies between these.
    one = md.diffusion.interpolate(model, schedule, x[[3]], both[[13]], labels[[3]], count=10, **climb)[0]
    other = md.diffusion.interpolate(model, schedule, x[[4]], x[[9]], np.array([-1]), count=10, **climb)[0]

    dark = np.where(known, x, -0.5).astype(np.float32)                        # grey where nothing is known
    sheet = viz.named_rows(
        np.stack([noisy, repaired, dark, completed, x, redrawn, noise, back, one, other]),
        ["with noise", "without", "upper half", "completed", "given", "redrawn", "as noise", "and back", "3 to 3", "4 to 9"],
        ["repair", "complete", "redraw", "invert", "blend"],
        title=f"Ten digits of {name}, edited by the model {loaded.path.stem} in {steps} steps",
    )
    print(f"drawn {viz.save(sheet, args.out / 'edits.png')}")


if __name__ == "__main__":
    try:
        main()
    except md.BadInput as error:
        raise SystemExit(f"edit_digits: {error}") from None

"""Train a diffusion model on digits, save it, and draw a sheet of new ones.

    python examples/train_mnist.py                                  2,000 steps
    python examples/train_mnist.py --steps 20000 --channels 32,64,128
    python examples/train_mnist.py --data glyphs --steps 500        no MNIST files needed

MNIST is taken where its files are at hand (`minidiff data fetch mnist` gets them), and digits drawn from fonts
otherwise. In the output folder you will find model.npz, which examples/sample_grid.py and `minidiff sample` read,
and digits.png. The whole training is in `train` below; for runs of hours, `minidiff.train.Trainer` can also be
stopped and resumed.
"""

import argparse
from pathlib import Path
from time import perf_counter

import numpy as np

import minidiff as md
from minidiff import viz
from minidiff.train import checkpoint


def train(model, ema, schedule, dataset, steps, batch, lr, seed):
    """Teach `model` to tell noise from picture; `ema` keeps the average of its weights."""
    optimizer = md.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    lr_schedule = md.optim.CosineLR(optimizer, steps, warmup_steps=min(100, steps // 5))
    rng = np.random.default_rng((seed, 1))  # steps t, noise, and which labels are dropped
    losses, started = [], perf_counter()
    with md.data.DataLoader(dataset, batch, seed=seed) as loader:
        for step in range(1, steps + 1):
            x0, labels = next(loader)  # (N,1,32,32) in [-1,1], (N,)
            loss = md.diffusion.loss(model, schedule, x0, labels, rng, drop=0.1)
            loss.backward()
            md.optim.clip_grad_norm(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            lr_schedule.step()
            ema.update()
            losses.append(loss.item())
            if step % 50 == 0 or step == steps:
                speed = step * batch / (perf_counter() - started)
                print(f"step {step:6,} of {steps:,}   loss {np.mean(losses[-50:]):.4f}   {speed:4.0f} images/s", flush=True)


def save(model, schedule, classes, path):
    """Write what is needed to draw with the model again."""
    meta = {"kind": "weights", "model": model.config, "schedule": schedule.config, "classes": list(classes)}
    return checkpoint.save(path, {"model": model.state_dict()}, meta)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=("mnist", "fashion-mnist", "glyphs"), help="default: mnist if it is at hand, else glyphs")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-3, help="the largest learning rate")
    parser.add_argument("--channels", default="16,32,64", help="of each level of the U-Net; multiples of 8")
    parser.add_argument("--guidance", type=float, default=1.5, help="how hard to lean on the class when drawing")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("trained"))
    args = parser.parse_args()
    if (args.out / "model.npz").exists():
        parser.error(f"{args.out / 'model.npz'} is there already; give another --out")

    dataset = md.data.load(args.data or ("mnist" if md.data.find_mnist() else "glyphs"))
    md.manual_seed(args.seed)
    channels = [int(c) for c in args.channels.split(",")]
    classes = len(dataset.classes)
    model = md.models.UNet(channels=channels, time_dim=32, condition="film", target="v", num_classes=classes)
    ema = md.optim.EMA(model, decay=0.995)
    schedule = md.diffusion.make_schedule("cosine", T=100)
    print(f"{len(dataset):,} images of {dataset.name}; a U-Net of {model.num_parameters():,} parameters")

    args.out.mkdir(parents=True, exist_ok=True)
    train(model, ema, schedule, dataset, args.steps, args.batch, args.lr, args.seed)

    with ema.applied():  # the averaged weights draw better than the last ones
        print(f"saved {save(model, schedule, dataset.classes, args.out / 'model.npz')}")
        labels = np.repeat(np.arange(len(dataset.classes)), 8)
        images = md.diffusion.sample(model, schedule, labels, sampler="ddim", steps=25,
                                     guidance=args.guidance, seed=args.seed)  # fmt: skip
    sheet = viz.class_grid(images, labels, dataset.classes, title=f"{args.steps:,} steps on {dataset.name}")
    print(f"drawn {viz.save(sheet, args.out / 'digits.png')}")


if __name__ == "__main__":
    try:
        main()
    except md.BadInput as error:
        raise SystemExit(f"train_mnist: {error}") from None

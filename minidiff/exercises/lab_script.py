import numpy as np

import minidiff as md
from minidiff.nn import functional as F

SCHEDULE = {"name": "cosine", "T": 100}
NETWORK = {"channels": (32, 64), "condition": "film", "time_dim": 32, "patch": 4, "target": "v", "skips": True, "clock": True}
STEPS, BATCH, LR = 300, 32, 5e-3


def pairs(images, labels):
    """Images and labels in another order."""
    order = np.random.default_rng(0).permutation(len(images))
    return images[order], labels[order]


def prepare(pictures):
    """Pictures in [0,1], as the network gets them."""
    return 2 * pictures - 1


def drop(labels, rng):
    """One label in ten is lost, so that the network also learns to draw without."""
    return np.where(rng.random(len(labels)) < 0.1, -1, labels)


def ask(model, xt, t, labels):
    """The network's answer about x_t."""
    return model(xt, t, labels)


def average(model):
    """What becomes of the weights over the steps."""
    return md.optim.EMA(model, decay=0.99)


def weights(model, ema):
    """`with weights(model, ema):` the model has the weights to draw with."""
    return ema.applied()


def guide(cond, uncond, w):
    """Lean towards the class."""
    return (1 + w) * cond - w * uncond


def sample(model, labels, steps=25, guidance=2.0, seed=0, callback=None):
    """A picture for each label, by DDIM."""
    road, size = md.diffusion.make_schedule(**SCHEDULE), model.config["image_size"]
    times = md.diffusion.time_steps(road.T, steps)
    xt = np.random.default_rng(seed).standard_normal((len(labels), 1, size, size), dtype=np.float32)
    for k, (t, s) in enumerate(zip(times, times[1:])):
        with md.no_grad():
            cond, uncond = (ask(model, xt, t, told).numpy() for told in (labels, np.full_like(labels, -1)))
        answer = guide(cond, uncond, guidance)
        x0 = np.clip(md.diffusion.predict_x0(road, xt, t, answer, model.target), -1, 1)
        eps = (xt - road.signal[t] * x0) / road.noise[t]
        xt = (road.signal[s] * x0 + road.noise[s] * eps).astype(np.float32)
        if callback is not None:
            callback(k, s, xt, x0, np.arange(len(xt)))
    return xt


def main():
    road, rng = md.diffusion.make_schedule(**SCHEDULE), np.random.default_rng(0)
    digits = md.data.load("glyphs", limit=2000)
    images, labels = pairs((md.data.to_model(digits.images) + 1) / 2, digits.labels)
    md.manual_seed(0)
    model = md.models.UNet(**NETWORK)
    ema, optimizer = average(model), md.optim.AdamW(model.parameters(), lr=LR)
    for step in range(1, STEPS + 1):
        picked = rng.integers(0, len(images), BATCH)
        x0, t = prepare(images[picked]), rng.integers(1, road.T + 1, BATCH)
        eps = rng.standard_normal(x0.shape, dtype=np.float32)
        answer = ask(model, md.diffusion.q_sample(road, x0, t, eps), t, drop(labels[picked], rng))
        loss = F.mse_loss(answer, md.diffusion.training_target(road, x0, t, eps, model.target))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        ema.update()
        if step % 50 == 0:
            print(f"step {step}: loss {loss.item():.4f}")
    asked = np.repeat(np.arange(10), 8)
    with weights(model, ema):
        pictures = sample(model, asked)
    md.viz.save(md.viz.class_grid(pictures, asked, digits.classes), "lab.png")
    verdict = md.evaluate.judge_samples(pictures, asked)
    print(f"{verdict.accuracy:.0%} of the digits are those that were asked for; wrote lab.png")


if __name__ == "__main__":
    main()

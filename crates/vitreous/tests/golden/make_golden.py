#!/usr/bin/env python3
"""Writes the golden files beside it: what PyTorch computes in f64 for the models of golden_models.py.

    python3 -m venv venv && venv/bin/pip install torch numpy
    venv/bin/python make_golden.py [NAME...]            # rewrites NAME.json, of all models without a name
    venv/bin/python make_golden.py --float32 [NAME...]  # also: how far PyTorch's own f32 is from them
    venv/bin/python make_golden.py --search [NAME...]   # for another seed with wide margins, after a change

Dropout is off. Made with PyTorch 2.15.
"""
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from golden_models import MODELS

OUTPUT_PLACES, STEPS = 64, 10
IMAGE_SCALE = 1.7321  # Variance 1. Few digits here and in `specs`, which every JSON reader takes without rounding.
# Nearer than some roundings of f32, a ReLU's side would be a matter of luck.
KINK = 5e-6
# A gradient that is nothing beside the model's largest is 0 but for roundings, as that of a key's bias is.
FLOOR = 1e-8


# ---- numbers, by the formula that expected.rs has too ----

def mix(x):
    """Wellons' lowbias32, on 32-bit numbers."""
    x = np.asarray(x, np.uint32)
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x21F0AAAD)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0xD35A2D97)
    return x ^ (x >> np.uint32(15))


def tensor(seed, number, count, center, scale):
    """center + scale u with u in [-1, 1), rounded to f32."""
    key = mix([1000 * seed + number])
    u = mix(key + np.arange(count, dtype=np.uint32)).astype(np.float64) / 2.0**31 - 1.0
    return torch.from_numpy((center + scale * u).astype(np.float32).astype(np.float64))


def places(count, limit):
    """At most `limit` places in 0..count; the step is a prime that divides no count."""
    return list(range(count)) if count <= limit else [k * 1_000_003 % count for k in range(limit)]


class Run:
    """Gradients and losses of a model whose numbers come from a seed."""

    def __init__(self, model, seed, dtype=torch.float64, steps=STEPS):
        self.model, self.specs = model, model.specs()
        p = {name: tensor(seed, n, math.prod(shape), center, scale).reshape(shape).to(dtype).requires_grad_()
             for n, (name, (shape, center, scale)) in enumerate(self.specs.items())}
        count = model.batch * math.prod(model.image)
        images = tensor(seed, len(p), count, 0.0, IMAGE_SCALE).reshape(model.batch, *model.image).to(dtype)
        labels = torch.tensor([(7 * i + 3) % model.classes for i in range(model.batch)])
        self.kink = math.inf

        def margin(x):
            if x.numel() > 0:
                self.kink = min(self.kink, x.detach().abs().min().item())

        optimizer, self.losses = model.optimizer(list(p.values())), []
        for step in range(steps):
            logits, outputs = model.forward(p, images, margin if step == 0 else lambda x: None)
            if "--search" in sys.argv and model.kinks and self.kink < KINK:
                return
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            if step == 0:
                self.logits = logits.detach()
                self.outputs = {name: x.detach().flatten() for name, x in outputs.items()}
                self.gradients = {name: x.grad.clone().flatten() for name, x in p.items()}
            self.losses.append(loss.item())
            for group in optimizer.param_groups:
                group["lr"] = model.learning_rate(step) or group["lr"]
            optimizer.step()

    def is_clear(self):
        return not self.model.kinks or self.kink > KINK


def digits(x):
    return float(f"{x:.13g}")


def sample(x, limit):
    place = int(x.abs().argmax())
    elements = x[torch.tensor(places(len(x), limit))].tolist()
    return {"norm": digits(x.norm().item()), "largest": digits(x[place].item()), "largest_place": place,
            "elements": [digits(v) for v in elements]}


def write(run, path):
    params = [{"name": name, "shape": shape, "center": center, "scale": scale}
              for name, (shape, center, scale) in run.specs.items()]
    gradients = run.model.gradient_places
    lines = {
        "seed": run.model.seed, "batch": run.model.batch, "image_scale": IMAGE_SCALE, "parameters": params,
        "outputs": [{"name": name, **sample(x, OUTPUT_PLACES)} for name, x in run.outputs.items()],
        "logits": [digits(x) for x in run.logits.flatten().tolist()], "loss": digits(run.losses[0]),
        "gradients": [{"name": name, **sample(x, gradients)} for name, x in run.gradients.items()],
        "losses": [digits(x) for x in run.losses],
    }
    text = []
    for key, value in lines.items():
        if isinstance(value, list) and isinstance(value[0], dict):
            rows = ",\n".join("  " + json.dumps(row, separators=(",", ":")) for row in value)
            text.append(f'"{key}": [\n{rows}\n]')
        else:
            text.append(f'"{key}": {json.dumps(value, separators=(",", ":"))}')
    path.write_text("{\n" + ",\n".join(text) + "\n}\n")


def float32(exact):
    """Prints PyTorch's f32 errors as parts of what the Rust engine is allowed."""
    single, tolerance = Run(exact.model, exact.model.seed, torch.float32), exact.model.tolerance
    floor = FLOOR * max(x.abs().max().item() for x in exact.gradients.values())

    def part(size):
        return max((size(single.gradients[name].double(), x), name) for name, x in exact.gradients.items())

    values = part(lambda a, x: ((a - x).abs().max() / (tolerance * x.abs().max() + floor)).item())
    norms = part(lambda a, x: ((a.norm() - x.norm()).abs() / (tolerance * x.norm() + floor)).item())
    logits = ((single.logits.double() - exact.logits).abs().max() / exact.logits.abs().max()).item() / tolerance
    losses = max(abs(a - b) for a, b in zip(single.losses, exact.losses)) / 2e-5
    print(f"{exact.model.name} in f32, parts of the tolerance: gradients {values[0]:.3f} ({values[1]}), "
          f"their norms {norms[0]:.3f}, logits {logits:.3f}, losses {losses:.3f}")


def main():
    names = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    for model in (make() for make in MODELS):
        if names and model.name not in names:
            continue
        if "--search" in sys.argv:
            clear = next(seed for seed in range(1, 1000) if Run(model, seed, steps=1).is_clear())
            print(f"{model.name}: seed {clear}", flush=True)
            continue
        run = Run(model, model.seed)
        assert run.is_clear(), (model.name, run.kink)
        write(run, Path(__file__).with_name(model.name + ".json"))
        print(f"{model.name}: loss {run.losses[0]:.6f} .. {run.losses[-1]:.6f}, least distance from a kink "
              f"{run.kink:.1e}", flush=True)
        if "--float32" in sys.argv:
            float32(run)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Writes the golden files beside it: what PyTorch computes in f64 for `mnist-vit` and `cifar-vit-64`.

    python3 -m venv venv && venv/bin/pip install torch numpy
    venv/bin/python make_golden.py            # rewrites mnist-vit.json and cifar-vit-64.json
    venv/bin/python make_golden.py --float32  # also: how far PyTorch's own f32 is from them
    venv/bin/python make_golden.py --search   # for another seed with wide margins, after a change

The models are written from their descriptions, with other operations than the Rust program has: the patch embedding
is a convolution, the attention of `mnist-vit` is the one behind `torch.nn.MultiheadAttention`. Dropout is off.
Made with PyTorch 2.15.
"""
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

GRADIENT_PLACES, OUTPUT_PLACES, STEPS = 256, 64, 10
EPS = 1e-5
IMAGE_SCALE = 1.7321  # Variance 1. Few digits here and in `specs`, which every JSON reader takes without rounding.
# Nearer than some roundings of f32, a largest element's place or a ReLU's side would be a matter of luck.
LEAD, KINK = 5e-4, 5e-6


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


# ---- the models ----

class Mnist:
    """E6: one layer norm shared by both halves of a block, GELU, 65 positions of which 50 are used."""
    name, seed, batch, image = "mnist-vit", 8, 12, (1, 28, 28)
    width, hidden, depth, heads, patch, positions = 64, 128, 3, 4, 4, 65
    block_norms = {"norm1": 64}
    final_norm = True
    kinks = False

    def optimizer(params):
        return torch.optim.AdamW(params, lr=3e-4, weight_decay=0.01, foreach=False)

    def block(p, x, margin):
        def norm(x):
            return F.layer_norm(x, (64,), p["norm1.weight"], p["norm1.bias"], EPS)

        y = norm(x).transpose(0, 1)  # [tokens, batch, width]
        y, _ = F.multi_head_attention_forward(
            y, y, y, 64, 4, p["attn.qkv.weight"], p["attn.qkv.bias"], None, None, False, 0.0, p["attn.proj.weight"],
            p["attn.proj.bias"], need_weights=False)
        x = x + y.transpose(0, 1)
        return x + F.linear(F.gelu(F.linear(norm(x), p["mlp.fc1.weight"], p["mlp.fc1.bias"])), p["mlp.fc2.weight"],
                            p["mlp.fc2.bias"])


class Cifar:
    """E3 with true patches: ReLU after each norm, and a norm before the MLP's own ReLU; no final norm."""
    name, seed, batch, image = "cifar-vit-64", 109, 10, (3, 32, 32)
    width, hidden, depth, heads, patch, positions = 64, 256, 3, 4, 4, 65
    block_norms = {"norm1": 64, "norm2": 64, "mlp.norm": 256}
    final_norm = False
    kinks = True

    def optimizer(params):
        return torch.optim.Adam(params, lr=1e-3, foreach=False)

    def block(p, x, margin):
        def norm_relu(name, x):
            y = F.layer_norm(x, x.shape[-1:], p[name + ".weight"], p[name + ".bias"], EPS)
            margin(y)
            return torch.relu(y)

        batch, tokens, width = x.shape
        q, k, v = F.linear(norm_relu("norm1", x), p["attn.qkv.weight"], p["attn.qkv.bias"]).chunk(3, -1)
        heads = []
        for h in range(4):
            own = slice(16 * h, 16 * (h + 1))
            scores = q[..., own] @ k[..., own].transpose(1, 2) / math.sqrt(16)
            heads.append(torch.softmax(scores, -1) @ v[..., own])
        x = x + F.linear(torch.cat(heads, -1), p["attn.proj.weight"], p["attn.proj.bias"])
        y = F.linear(norm_relu("norm2", x), p["mlp.fc1.weight"], p["mlp.fc1.bias"])
        return x + F.linear(norm_relu("mlp.norm", y), p["mlp.fc2.weight"], p["mlp.fc2.bias"])


def specs(model):
    """Name -> (shape, center, scale) of each parameter, in the order that numbers them."""
    channels, width, hidden = model.image[0], model.width, model.hidden
    out = {}

    def linear(name, fan_in, fan_out):
        # Variance 1 / fan_in, so that scores, and with them query and key gradients, are not lost beside values'.
        out[name + ".weight"] = ([fan_out, fan_in], 0.0, round(math.sqrt(3.0 / fan_in), 4))
        out[name + ".bias"] = ([fan_out], 0.0, 0.1)

    def norm(name, features):
        out[name + ".weight"] = ([features], 1.0, 0.1)
        out[name + ".bias"] = ([features], 0.0, 0.1)

    linear("patch_embed.proj", channels * model.patch**2, width)
    out["cls_token"] = ([1, 1, width], 0.0, 1.0)
    out["pos_embed"] = ([1, model.positions, width], 0.0, 1.0)
    for i in range(model.depth):
        for name, features in model.block_norms.items():
            norm(f"blocks.{i}.{name}", features)
        linear(f"blocks.{i}.attn.qkv", width, 3 * width)
        linear(f"blocks.{i}.attn.proj", width, width)
        linear(f"blocks.{i}.mlp.fc1", width, hidden)
        linear(f"blocks.{i}.mlp.fc2", hidden, width)
    if model.final_norm:
        norm("norm", width)
    linear("head", width, 10)
    return out


def forward(model, p, images, margin=lambda x: None):
    """Logits, and intermediate outputs under the names of the Rust graph's nodes."""
    outputs = {}
    weight = p["patch_embed.proj.weight"].reshape(model.width, model.image[0], model.patch, model.patch)
    x = F.conv2d(images, weight, p["patch_embed.proj.bias"], stride=model.patch).flatten(2).transpose(1, 2)
    outputs["patch_embed.proj"] = x
    x = torch.cat([p["cls_token"].expand(len(x), 1, -1), x], 1)
    x = x + p["pos_embed"][:, :x.shape[1]]
    outputs["pos_embed"] = x
    for i in range(model.depth):
        own = {name.removeprefix(f"blocks.{i}."): value for name, value in p.items() if name.startswith(f"blocks.{i}.")}
        x = model.block(own, x, margin)
        outputs[f"blocks.{i}.add2"] = x
    x = x[:, 0]
    if model.final_norm:
        x = F.layer_norm(x, (model.width,), p["norm.weight"], p["norm.bias"], EPS)
    return F.linear(x, p["head.weight"], p["head.bias"]), outputs


class Run:
    """Gradients and ten losses of a model whose numbers come from a seed."""

    def __init__(self, model, seed, dtype=torch.float64, steps=STEPS):
        self.model, self.specs = model, specs(model)
        p = {name: tensor(seed, n, math.prod(shape), center, scale).reshape(shape).to(dtype).requires_grad_()
             for n, (name, (shape, center, scale)) in enumerate(self.specs.items())}
        count = model.batch * math.prod(model.image)
        images = tensor(seed, len(p), count, 0.0, IMAGE_SCALE).reshape(model.batch, *model.image).to(dtype)
        labels = torch.tensor([(7 * i + 3) % 10 for i in range(model.batch)])
        self.kink = math.inf

        def margin(x):
            self.kink = min(self.kink, x.detach().abs().min().item())

        optimizer, self.losses = model.optimizer(list(p.values())), []
        for step in range(steps):
            logits, outputs = forward(model, p, images, margin if step == 0 else lambda x: None)
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            if step == 0:
                self.logits = logits.detach()
                self.outputs = {name: x.detach().flatten() for name, x in outputs.items()}
                self.gradients = {name: x.grad.clone().flatten() for name, x in p.items()}
            self.losses.append(loss.item())
            optimizer.step()

    def gap(self):
        """The least lead of a tensor's largest element over its second, as part of the largest."""
        leads = []
        for x in [*self.gradients.values(), *self.outputs.values()]:
            first, second = x.abs().topk(2).values.tolist()
            leads.append(1.0 - second / first)
        return min(leads)


def digits(x):
    return float(f"{x:.13g}")


def sample(x, limit):
    x = x.tolist()
    place = max(range(len(x)), key=lambda i: abs(x[i]))
    return {"norm": digits(math.sqrt(math.fsum(v * v for v in x))), "largest": digits(x[place]),
            "largest_place": place, "elements": [digits(x[i]) for i in places(len(x), limit)]}


def write(run, path):
    params = [{"name": name, "shape": shape, "center": center, "scale": scale}
              for name, (shape, center, scale) in run.specs.items()]
    lines = {
        "seed": run.model.seed, "batch": run.model.batch, "image_scale": IMAGE_SCALE, "parameters": params,
        "outputs": [{"name": name, **sample(x, OUTPUT_PLACES)} for name, x in run.outputs.items()],
        "logits": [digits(x) for x in run.logits.flatten().tolist()], "loss": digits(run.losses[0]),
        "gradients": [{"name": name, **sample(x, GRADIENT_PLACES)} for name, x in run.gradients.items()],
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
    single = Run(exact.model, exact.model.seed, torch.float32)
    floor = 1e-8 * max(x.abs().max().item() for x in exact.gradients.values())

    def part(size):
        return max((size(single.gradients[name].double(), x), name) for name, x in exact.gradients.items())

    values = part(lambda a, x: ((a - x).abs().max() / (5e-6 * x.abs().max() + floor)).item())
    norms = part(lambda a, x: ((a.norm() - x.norm()).abs() / (5e-6 * x.norm() + floor)).item())
    logits = ((single.logits.double() - exact.logits).abs().max() / exact.logits.abs().max()).item() / 5e-6
    losses = max(abs(a - b) for a, b in zip(single.losses, exact.losses)) / 2e-5
    print(f"{exact.model.name} in f32, parts of the tolerance: gradients {values[0]:.3f} ({values[1]}), "
          f"their norms {norms[0]:.3f}, logits {logits:.3f}, losses {losses:.3f}")


def main():
    for model in (Mnist, Cifar):
        if "--search" in sys.argv:
            for seed in range(1, 300):
                run = Run(model, seed, steps=1)
                if run.gap() > LEAD and run.kink > KINK:
                    print(f"{model.name}: seed {seed}, {run.gap():.1e}, {run.kink:.1e}", flush=True)
            continue
        run = Run(model, model.seed)
        assert run.gap() > LEAD and run.kink > KINK, (run.gap(), run.kink)
        write(run, Path(__file__).with_name(model.name + ".json"))
        print(f"{model.name}: loss {run.losses[0]:.6f} .. {run.losses[-1]:.6f}, least lead of a largest element "
              f"{run.gap():.1e}, least distance from a kink {run.kink:.1e}")
        if "--float32" in sys.argv:
            float32(run)


if __name__ == "__main__":
    main()

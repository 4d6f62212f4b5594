#!/usr/bin/env python3
"""One training step of vitreous against one of PyTorch (eager, f32), side by side on this machine.

    python3 -m venv torch && torch/bin/pip install torch
    torch/bin/python benches/compare_pytorch.py --ours target/release/vitreous

A step is the whole of it on both sides: gradients from zero, forward, cross-entropy, backward, Adam (lr 1e-4), the loss
read back; on random images that lie in memory, after three steps of warm-up. Each round measures both programs one
after the other, each in a process of its own, so a slow phase of the machine hits both. What is printed is the round
whose ratio (theirs / ours) is the median one. Nothing else should run meanwhile.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

# name: batch, image size, channels, and what `build` takes; the same models as in presets/*.toml
MODELS = {
    "mnist-vit": (128, 28, 1, dict(dim=64, depth=3, heads=4, hidden=128, positions=65, shared_norm=True, dropout=0.1)),
    "cifar-vit-64": (100, 32, 3, dict(dim=64, depth=3, heads=4, hidden=256, norm_activation=True)),
    "fashion-vit-128": (128, 28, 1, dict(dim=128, depth=6, heads=8, hidden=256)),
    "vit-lite-7-4": (128, 32, 3, dict(dim=256, depth=7, heads=4, hidden=512, qkv_bias=False)),
}
PATCH, CLASSES, WARM_UP, STEPS_MIN = 4, 10, 3, 3


def build(image_size, channels, dim, depth, heads, hidden, positions=None, shared_norm=False, norm_activation=False,
          qkv_bias=True, dropout=0.0):
    """Makes a vision transformer as PyTorch is written for speed: fused query-key-value and fused attention."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Encoder(nn.Module):
        """One block: `x + attention(norm(x))`, then `x + mlp(norm(x))`, with the two presets' departures from it."""

        def __init__(self):
            super().__init__()
            self.norm1 = nn.LayerNorm(dim)
            self.norm2 = self.norm1 if shared_norm else nn.LayerNorm(dim)
            self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=qkv_bias), nn.Linear(dim, dim)
            self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
            self.mlp_norm = nn.LayerNorm(hidden) if norm_activation else nn.Identity()
            self.activation = nn.ReLU() if norm_activation else nn.GELU()
            self.after_norm = nn.ReLU() if norm_activation else nn.Identity()
            self.dropout = nn.Dropout(dropout)

        def attention(self, x):  # [batch, tokens, dim]
            split = self.qkv(x).unflatten(-1, (3, heads, dim // heads)).permute(2, 0, 3, 1, 4)
            query, key, value = split.unbind(0)  # [batch, heads, tokens, dim / heads]
            rate = dropout if self.training else 0.0
            context = F.scaled_dot_product_attention(query, key, value, dropout_p=rate)
            return self.proj(context.transpose(1, 2).flatten(2))

        def mlp(self, x):
            inner = self.activation(self.mlp_norm(self.fc1(x)))
            return self.dropout(self.fc2(self.dropout(inner)))

        def forward(self, x):
            x = x + self.attention(self.after_norm(self.norm1(x)))
            return x + self.mlp(self.after_norm(self.norm2(x)))

    class VisionTransformer(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens = (image_size // PATCH) ** 2 + 1
            self.patch_embed = nn.Linear(channels * PATCH * PATCH, dim)
            self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
            self.pos_embed = nn.Parameter(torch.randn(1, positions or self.tokens, dim))
            self.dropout = nn.Dropout(dropout)
            self.blocks = nn.Sequential(*(Encoder() for _ in range(depth)))
            self.norm = nn.Identity() if norm_activation else nn.LayerNorm(dim)
            self.head = nn.Linear(dim, CLASSES)

        def forward(self, images):  # [batch, channels, height, width]
            side = image_size // PATCH
            grid = images.unflatten(3, (side, PATCH)).unflatten(2, (side, PATCH))
            patches = grid.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
            tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), self.patch_embed(patches)], dim=1)
            tokens = self.dropout(tokens + self.pos_embed[:, :self.tokens])
            return self.head(self.norm(self.blocks(tokens)[:, 0]))

    return VisionTransformer()


def time_torch(name, seconds, threads):
    """Prints the median of PyTorch's steps as one JSON line."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    batch, image_size, channels, sizes = MODELS[name]
    model = build(image_size, channels, **sizes)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    images = torch.randn(batch, channels, image_size, image_size)
    labels = torch.randint(0, CLASSES, (batch,))

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    for _ in range(WARM_UP):
        step()
    times, start = [], time.perf_counter()
    while len(times) < STEPS_MIN or time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - begin))
    params = sum(p.numel() for p in model.parameters())
    print(json.dumps({"ms": statistics.median(times), "params": params, "version": torch.__version__}))


def measure(command):
    """Runs a program and returns the JSON object on its last line."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(command)}: {done.stderr.strip()}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(name, args):
    """Returns the round of the median ratio: (ratio, PyTorch's ms, our ms), and PyTorch's version."""
    flags = ["--seconds", str(args.seconds), "--threads", str(args.threads)]
    rounds = []
    for _ in range(args.rounds):
        theirs = measure([sys.executable, __file__, "--torch", name, *flags])
        batch = str(MODELS[name][0])
        ours = measure([args.ours, "bench", "step", "--preset", name, "--batch-size", batch, *flags, "--json"])
        if theirs["params"] != ours["params"]:
            sys.exit(f"error: {name} has {theirs['params']} parameters there and {ours['params']} here")
        rounds.append((theirs["ms"] / ours["ms"], theirs["ms"], ours["ms"]))
    rounds.sort()
    return rounds[len(rounds) // 2], theirs["version"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", default="target/release/vitreous", help="the program to measure")
    parser.add_argument("--only", help="measure one model", choices=list(MODELS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one measurement")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--torch", choices=list(MODELS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.torch:
        time_torch(args.torch, args.seconds, args.threads)
        return
    for name in [args.only] if args.only else MODELS:
        (ratio, theirs, ours), version = compare(name, args)
        print(f"{name:16s}  PyTorch {version} {theirs:8.1f} ms   vitreous {ours:8.1f} ms   ratio {ratio:5.2f}", flush=True)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""One training step of vitreous against one of PyTorch (eager, f32), side by side on this machine.

    python3 -m venv torch && torch/bin/pip install torch
    torch/bin/python benches/compare_pytorch.py --ours target/release/vitreous

A step includes everything on both sides: zeroing gradients, forward, cross-entropy, backward, Adam (lr 1e-4), reading
the loss; on random images in memory, after three warm-up steps. Each round runs both programs one after the other, each
in its own process, so a slow phase of the machine affects both. The round with the median ratio (theirs / ours) is
printed. Nothing else should run at the same time.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

# name: batch, image size, channels, classes, and how PyTorch makes the model; the same models as the presets
MODELS = {
    "cifar-vit-cosine-6b8h8d": (32, 32, 3, 5, lambda: per_head_vit(dim=8, depth=6, heads=8, learned=False)),
    "cifar-vit-learned-4b6h12d": (32, 32, 3, 5, lambda: per_head_vit(dim=12, depth=4, heads=6, learned=True)),
    "mnist-vit": (128, 28, 1, 10, lambda: vit(28, 1, dim=64, depth=3, heads=4, hidden=128, positions=65,
                                              shared_norm=True, dropout=0.1)),
    "cifar-vit-64": (100, 32, 3, 10, lambda: vit(32, 3, dim=64, depth=3, heads=4, hidden=256, norm_activation=True)),
    "fashion-vit-128": (128, 28, 1, 10, lambda: vit(28, 1, dim=128, depth=6, heads=8, hidden=256)),
    "vit-lite-7-4": (128, 32, 3, 10, lambda: vit(32, 3, dim=256, depth=7, heads=4, hidden=512, qkv_bias=False)),
    "photos-vit-52m": (16, 64, 3, 5, lambda: sequence_vit(dim=128, depth=2, heads=2)),
    "cifar-cnn4": (128, 32, 3, 10, lambda: cnn([32, 32, "M", 64, "M", 128, "M"], 2048)),
    "cifar-vgg16": (64, 32, 3, 10, lambda: cnn([64, 64, "M", 128, 128, "M"] + [256] * 3 + ["M"] + ([512] * 3 + ["M"]) * 2,
                                               512)),
    "cifar-attention-cnn": (100, 32, 3, 10, lambda: attention_cnn([32, 64, 128, 256, 128])),
}
PATCH, CLASSES, WARM_UP, STEPS_MIN = 4, 10, 3, 3


def per_head_vit(dim, depth, heads, learned, activation="ReLU", classes=5):
    """Makes a vision transformer whose heads see their own channels only, and whose head ends in a softmax."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    own = dim // heads

    class PerHead(nn.Module):
        """One small linear layer for each head; all of them in one product."""

        def __init__(self):
            super().__init__()
            bound = own**-0.5
            self.weight = nn.Parameter(torch.empty(3, heads, own, own).uniform_(-bound, bound))
            self.bias = nn.Parameter(torch.empty(3, heads, 1, own).uniform_(-bound, bound))

        def forward(self, x):
            x = x.unflatten(-1, (heads, own)).transpose(1, 2)  # [batch, heads, tokens, own]
            query, key, value = torch.einsum("bhti,nhoi->nbhto", x, self.weight) + self.bias[:, None]
            return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2, self.attention = nn.LayerNorm(dim), nn.LayerNorm(dim), PerHead()
            self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), getattr(nn, activation)(), nn.Linear(4 * dim, dim))

        def forward(self, x):
            x = x + self.attention(self.norm1(x))
            return x + self.mlp(self.norm2(x))

    class PerHeadVit(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch_embed = nn.Conv2d(3, dim, PATCH, PATCH)
            self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
            table = torch.randn(1, 65, dim)
            if learned:
                self.pos_embed = nn.Parameter(table)
            else:
                at = torch.arange(65)[:, None] / 10000 ** (torch.arange(0, dim, 2) / dim)
                self.register_buffer("pos_embed", torch.stack([at.sin(), at.cos()], -1).flatten(1)[None])
            self.blocks = nn.Sequential(*(Block() for _ in range(depth)))
            self.head = nn.Linear(dim, classes)

        def forward(self, images):
            patches = self.patch_embed(images).flatten(2).transpose(1, 2)
            tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], dim=1) + self.pos_embed
            return torch.softmax(self.head(self.blocks(tokens)[:, 0]), -1)

    return PerHeadVit()


def sequence_vit(dim, depth, heads, patch=16, tokens=17, classes=5):
    """Makes a transformer whose heads and MLP project the whole sequence, with a softmax over the query axis."""
    import torch
    from torch import nn

    own, flat = tokens * dim // heads, tokens * dim

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
            self.parts = nn.ModuleList(nn.ModuleList(nn.Linear(own, own) for _ in "qkv") for _ in range(heads))
            self.mlp = nn.Sequential(nn.Linear(flat, 2 * flat), nn.ReLU(), nn.Linear(2 * flat, flat))

        def head(self, x, parts):  # [batch, tokens, dim / heads]
            query, key, value = (part(x.flatten(1)).view_as(x) for part in parts)
            weights = torch.softmax(query @ key.transpose(1, 2), dim=1)
            return weights @ value / x.shape[-1] ** 0.5

        def forward(self, x):
            seen = self.norm1(x).chunk(heads, dim=-1)
            x = x + torch.cat([self.head(part.contiguous(), own) for part, own in zip(seen, self.parts)], dim=-1)
            return x + self.mlp(self.norm2(x).flatten(1)).view_as(x)

    class SequenceVit(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch_embed = nn.Conv2d(3, dim, patch, patch)
            self.cls_token = nn.Parameter(torch.rand(1, 1, dim))
            self.pos_embed = nn.Parameter(torch.randn(1, tokens, dim))
            self.blocks = nn.Sequential(*(Block() for _ in range(depth)))
            self.head = nn.Linear(dim, classes)

        def forward(self, images):
            patches = self.patch_embed(images).flatten(2).transpose(1, 2)
            x = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], dim=1) + self.pos_embed
            return self.head(self.blocks(x).mean(1))

    return SequenceVit()


def cnn(layers, features):
    """Makes convolutions with ReLU and 2x2 max pools ("M"), and a linear layer."""
    from torch import nn

    made, channels = [], 3
    for layer in layers:
        if layer == "M":
            made.append(nn.MaxPool2d(2))
        else:
            made += [nn.Conv2d(channels, layer, 3, padding=1), nn.ReLU(inplace=True)]
            channels = layer
    return nn.Sequential(*made, nn.Flatten(), nn.Linear(features, CLASSES))


def attention_cnn(layers):
    """Makes convolutions with ReLU, each followed by attention between the places of its map."""
    from torch import nn
    from torch.nn import functional as F

    class Attention(nn.Module):
        def __init__(self, channels):
            super().__init__()
            inner = channels // 8
            self.theta, self.phi, self.g = (nn.Conv2d(channels, inner, 1) for _ in range(3))
            self.out, self.pool = nn.Conv2d(inner, channels, 1), nn.MaxPool2d(2)

        def forward(self, x):
            query = self.theta(x).flatten(2).transpose(1, 2)  # [batch, queries, inner]
            key, value = (self.pool(part(x)).flatten(2).transpose(1, 2) for part in (self.phi, self.g))
            seen = F.scaled_dot_product_attention(*(one[:, None] for one in (query, key, value)), scale=1.0)
            return x + self.out(seen[:, 0].transpose(1, 2).unflatten(2, x.shape[2:]))

    made, channels = [], 3
    for out in layers:
        made += [nn.Conv2d(channels, out, 3, padding=1), nn.ReLU(inplace=True), Attention(out)]
        channels = out
    return nn.Sequential(*made, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))


def vit(image_size, channels, dim, depth, heads, hidden, positions=None, shared_norm=False, norm_activation=False,
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


def time_torch(name, seconds, threads, channels_last):
    """Prints the median of PyTorch's steps as one JSON line."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    batch, image_size, channels, classes, make = MODELS[name]
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    images = torch.randn(batch, channels, image_size, image_size)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, classes, (batch,))

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
        theirs = measure([sys.executable, __file__, "--torch", name, *flags, *["--channels-last"] * args.channels_last])
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
    parser.add_argument("--channels-last", action="store_true",
                        help="let PyTorch's images and weights lie channels last, which suits its convolutions")
    parser.add_argument("--torch", choices=list(MODELS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.torch:
        time_torch(args.torch, args.seconds, args.threads, args.channels_last)
        return
    for name in [args.only] if args.only else MODELS:
        (ratio, theirs, ours), version = compare(name, args)
        print(f"{name:26s}  PyTorch {version} {theirs:8.1f} ms   vitreous {ours:8.1f} ms   ratio {ratio:5.2f}", flush=True)


if __name__ == "__main__":
    main()

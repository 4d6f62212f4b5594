#!/usr/bin/env python3
"""Trains `mnist-vit` (experiment E6), one of E1's six or E3's CNN in PyTorch, to compare its accuracy with ours.

    python3 -m venv torch && torch/bin/pip install torch
    torch/bin/python benches/train_pytorch.py --data-dir DIR --seed 42
    torch/bin/python benches/train_pytorch.py --data-dir DIR --preset cifar-vit-learned-4b6h12d-gelu

The recipe of the preset mnist-vit: 55,000 training and 5,000 validation images; random resized crops (scale 0.8 to 1, ratio
0.9 to 1.1, drawn as torchvision draws them, bilinear, rounded to whole gray levels) and horizontal flips; AdamW at 3e-4,
batches of 128, the last partial one dropped, 10 epochs; query, key and value as in nn.MultiheadAttention. The last line
is the test accuracy of the weights with the best validation accuracy.

The recipe of the presets cifar-vit-* of experiment E1: the even classes of CIFAR-10, Adam at 1e-4, batches of 32, 10 epochs;
the last line is the test accuracy of the last weights.

The recipe of the preset cifar-attention-cnn of experiment E3: all of CIFAR-10, Adam at 1e-3, batches of 100; images and weights
are in channels-last layout, which makes a step 1.7 times as fast. `--epochs 2` stops at the epoch that the report quotes.
"""
import argparse
import copy
import gzip
import math
import os
import time

import torch
from compare_pytorch import attention_cnn, per_head_vit, vit

SIDE, CLASSES = 28, 10
MEAN, STD = 0.1307, 0.3081
SCALE, RATIO, TRIES = (0.8, 1.0), (0.9, 1.1), 10
VALIDATION, SAID_STEPS = 5_000, 200
ATTENTION_CNN = "cifar-attention-cnn"
E1 = {f"{name}{end}": dict(model, activation=activation)
      for name, model in {"cifar-vit-cosine-6b8h8d": dict(dim=8, depth=6, heads=8, learned=False),
                          "cifar-vit-learned-4b6h12d": dict(dim=12, depth=4, heads=6, learned=True)}.items()
      for end, activation in {"": "ReLU", "-tanh": "Tanh", "-gelu": "GELU"}.items()}


def read(folder, split):
    """Returns a split's images [number, 28, 28], gray levels from 0 to 255, and its labels."""
    def values(name, header):
        with gzip.open(os.path.join(folder, "mnist", f"{split}-{name}-ubyte.gz")) as file:
            return torch.frombuffer(bytearray(file.read()), dtype=torch.uint8)[header:]

    return values("images-idx3", 16).view(-1, SIDE, SIDE).float(), values("labels-idx1", 8).long()


def stretch(start, length):
    """Returns the matrix that makes 28 values of `length` ones from `start` on, by linear interpolation."""
    at = ((torch.arange(SIDE) + 0.5) * length / SIDE - 0.5).clamp(0, length - 1)
    low = at.floor().long()
    matrix = torch.zeros(SIDE, SIDE)
    matrix[torch.arange(SIDE), start + low] += 1 - (at - low)
    matrix[torch.arange(SIDE), start + (low + 1).clamp(max=length - 1)] += at - low
    return matrix


STRETCHES = torch.stack([torch.stack([stretch(start, length) if start + length <= SIDE else torch.zeros(SIDE, SIDE)
                                      for start in range(SIDE)]) for length in range(1, SIDE + 1)])


def crops(number):
    """Draws crops: for each, height, width, top and left; the first of ten tries that fits, else the whole image."""
    area = SIDE * SIDE * torch.empty(number, TRIES).uniform_(*SCALE)
    ratio = torch.empty(number, TRIES).uniform_(math.log(RATIO[0]), math.log(RATIO[1])).exp()
    width, height = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
    fits = (width <= SIDE) & (height <= SIDE)
    first = fits.float().argmax(1, keepdim=True)
    width, height = (torch.where(fits.any(1), sizes.gather(1, first)[:, 0], SIDE) for sizes in (width, height))
    top, left = ((torch.rand(number) * (SIDE - sizes + 1)).long() for sizes in (height, width))
    return height, width, top, left


def augment(images):
    """Returns other crops of images [number, 28, 28], half of them mirrored."""
    height, width, top, left = crops(len(images))
    rows, columns = STRETCHES[height - 1, top], STRETCHES[width - 1, left]
    columns = torch.where(torch.rand(len(images), 1, 1) < 0.5, columns.flip(1), columns)
    return (rows @ images @ columns.transpose(1, 2)).round()


def normalized(images):
    return ((images / 255 - MEAN) / STD)[:, None]


def read_cifar(folder, split):
    """Returns a split's images [number, 3, 32, 32], between -1 and 1, and its labels from 0 to 9."""
    records = []
    for name in ["test_batch.bin"] if split == "test" else [f"data_batch_{number}.bin" for number in range(1, 6)]:
        with open(os.path.join(folder, "cifar-10-batches-bin", name), "rb") as file:
            records.append(torch.frombuffer(bytearray(file.read()), dtype=torch.uint8).view(-1, 3073))
    records = torch.cat(records)
    return (records[:, 1:].view(-1, 3, 32, 32).float() / 255 - 0.5) / 0.5, records[:, 0].long()


def even(images, labels):
    """Keeps the images of the even classes; their labels become 0 to 4."""
    kept = labels % 2 == 0
    return images[kept], labels[kept] // 2


def train_epoch(epoch, model, optimizer, batches):
    """Takes a step for each batch of images and labels; says the mean loss of every 200 steps and of all."""
    losses = []
    for images, labels in batches:
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if len(losses) % SAID_STEPS == 0:
            said = losses[-SAID_STEPS:]
            print(f"epoch {epoch}, up to step {len(losses)}: loss {sum(said) / len(said):.4f}", flush=True)
    print(f"epoch {epoch}: loss {sum(losses) / len(losses):.4f}", flush=True)


def accuracy(model, images, labels):
    model.eval()
    with torch.no_grad():
        logits = torch.cat([model(batch) for batch in images.split(1000)])
    model.train()
    return (logits.argmax(1) == labels).float().mean().item()


def train_mnist(folder, epochs):
    """Trains E6; returns what the test split says."""
    images, labels = read(folder, "train")
    order = torch.randperm(len(images))
    kept, held = order[VALIDATION:], order[:VALIDATION]
    model = vit(SIDE, 1, dim=64, depth=3, heads=4, hidden=128, positions=65, shared_norm=True, dropout=0.1)
    for block in model.blocks:
        torch.nn.init.xavier_uniform_(block.qkv.weight)
        torch.nn.init.zeros_(block.qkv.bias)
        torch.nn.init.zeros_(block.proj.bias)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.01)
    best = (0.0, 0, None)
    for epoch in range(1, epochs + 1):
        batches = kept[torch.randperm(len(kept))].split(128)[: len(kept) // 128]
        train_epoch(epoch, model, optimizer, ((normalized(augment(images[b])), labels[b]) for b in batches))
        found = accuracy(model, normalized(images[held]), labels[held])
        print(f"epoch {epoch}: val acc {100 * found:.2f} %", flush=True)
        if found > best[0]:
            best = (found, epoch, copy.deepcopy(model.state_dict()))
    model.load_state_dict(best[2])
    images, labels = read(folder, "t10k")
    return f"test {100 * accuracy(model, normalized(images), labels):.2f} % (epoch {best[1]})"


def train_cifar(folder, preset, epochs):
    """Trains one of E1, or E3's CNN with attention; returns what the test split says."""
    splits = [read_cifar(folder, split) for split in ("train", "test")]
    if preset == ATTENTION_CNN:
        model, lr, batch = attention_cnn([32, 64, 128, 256, 128]), 1e-3, 100
        model = model.to(memory_format=torch.channels_last)
        splits = [(images.contiguous(memory_format=torch.channels_last), labels) for images, labels in splits]
    else:
        model, lr, batch = per_head_vit(**E1[preset]), 1e-4, 32
        splits = [even(*split) for split in splits]
    images, labels = splits[0]
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for epoch in range(1, epochs + 1):
        batches = torch.randperm(len(images)).split(batch)
        train_epoch(epoch, model, optimizer, ((images[b], labels[b]) for b in batches))
    return f"test {100 * accuracy(model, *splits[1]):.2f} %"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True, help="the folder that has mnist/, and cifar-10-batches-bin/")
    parser.add_argument("--preset", choices=["mnist-vit", *E1, ATTENTION_CNN], default="mnist-vit")
    parser.add_argument("--epochs", type=int, default=10, help="how many to train; the recipes have 10")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    start = time.perf_counter()
    if args.preset == "mnist-vit":
        said = train_mnist(args.data_dir, args.epochs)
    else:
        said = train_cifar(args.data_dir, args.preset, args.epochs)
    print(f"seed {args.seed}: {said}, {time.perf_counter() - start:.0f} s, PyTorch {torch.__version__}")


if __name__ == "__main__":
    main()

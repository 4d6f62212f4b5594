#!/usr/bin/env python3
"""Trains `mnist-vit` (experiment E6) in PyTorch, to hold what it reaches against ours, seed by seed.

    python3 -m venv torch && torch/bin/pip install torch
    torch/bin/python benches/train_pytorch.py --data-dir DIR --seed 42

The recipe of presets/mnist-vit.toml: 55,000 images train and 5,000 validate; random resized crops (scale 0.8 to 1, ratio
0.9 to 1.1, drawn as torchvision draws them, bilinear, rounded to whole grey levels) and mirror images; AdamW at 3e-4,
batches of 128, the last partial one dropped, 10 epochs; query, key and value as in nn.MultiheadAttention. What the test
split says of the weights of the best validation epoch is the last line.
"""
import argparse
import copy
import gzip
import math
import os
import time

import torch
from compare_pytorch import vit

SIDE, CLASSES = 28, 10
MEAN, STD = 0.1307, 0.3081
SCALE, RATIO, TRIES = (0.8, 1.0), (0.9, 1.1), 10
VALIDATION, BATCH, EPOCHS = 5_000, 128, 10


def read(folder, split):
    """Returns a split's images [number, 28, 28], grey levels from 0 to 255, and its labels."""
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


def normalised(images):
    return ((images / 255 - MEAN) / STD)[:, None]


def accuracy(model, images, labels):
    model.eval()
    with torch.no_grad():
        logits = torch.cat([model(normalised(batch)) for batch in images.split(1000)])
    model.train()
    return (logits.argmax(1) == labels).float().mean().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True, help="the folder that has mnist/")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    images, labels = read(args.data_dir, "train")
    order = torch.randperm(len(images))
    kept, held = order[VALIDATION:], order[:VALIDATION]
    model = vit(SIDE, 1, dim=64, depth=3, heads=4, hidden=128, positions=65, shared_norm=True, dropout=0.1)
    for block in model.blocks:
        torch.nn.init.xavier_uniform_(block.qkv.weight)
        torch.nn.init.zeros_(block.qkv.bias)
        torch.nn.init.zeros_(block.proj.bias)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.01)
    best, start = (0.0, 0, None), time.perf_counter()
    for epoch in range(1, EPOCHS + 1):
        losses = []
        for batch in kept[torch.randperm(len(kept))].split(BATCH)[: len(kept) // BATCH]:
            optimizer.zero_grad(set_to_none=True)
            loss = torch.nn.functional.cross_entropy(model(normalised(augment(images[batch]))), labels[batch])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        found = accuracy(model, images[held], labels[held])
        print(f"epoch {epoch}/{EPOCHS}  loss {sum(losses) / len(losses):.4f}  val acc {100 * found:.2f} %", flush=True)
        if found > best[0]:
            best = (found, epoch, copy.deepcopy(model.state_dict()))
    model.load_state_dict(best[2])
    test = accuracy(model, *read(args.data_dir, "t10k"))
    print(f"seed {args.seed}: test {100 * test:.2f} % (epoch {best[1]}), {time.perf_counter() - start:.0f} s, "
          f"PyTorch {torch.__version__}")


if __name__ == "__main__":
    main()

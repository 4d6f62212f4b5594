#!/usr/bin/env python3
"""Loads weights files of vitreous into the models of timm and torchvision, strictly, and compares the logits for an image:

    python3 -m venv venv && venv/bin/pip install torch torchvision timm
    venv/bin/python benches/check_weights.py --ours target/release/vitreous runs/*/weights/last.safetensors

A vision transformer becomes timm's VisionTransformer, and must have its names and shapes. A VGG becomes torchvision's
features with one linear layer; `layers.N` is `features.N` there.
"""
import argparse
import json
import subprocess
import tempfile
import tomllib
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torchvision.models.vgg import cfgs, make_layers

ACTIVATIONS = {"gelu": torch.nn.GELU, "gelu-tanh": lambda: torch.nn.GELU(approximate="tanh"), "relu": torch.nn.ReLU}


def vision_transformer(model):
    mean = model["pooling"] == "mean"
    return VisionTransformer(
        img_size=model["image_size"], patch_size=model["patch_size"], in_chans=model["channels"],
        num_classes=model["num_classes"], embed_dim=model["embed_dim"], depth=model["depth"], num_heads=model["num_heads"],
        mlp_ratio=model["mlp_ratio"], qkv_bias=model["qkv_bias"], final_norm=model["final_norm"],
        norm_layer=partial(torch.nn.LayerNorm, eps=model["norm_eps"]), act_layer=ACTIVATIONS[model["activation"]],
        class_token=not mean, global_pool="avg" if mean else "token", fc_norm=False)


class Vgg(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        layers = model["layers"]
        plan = [int(line.split()[1]) if line.startswith("conv") else "M" for line in layers
                if line.startswith(("conv", "maxpool"))]
        assert plan in cfgs.values(), "not the layers of a VGG"
        self.features = make_layers(plan, "batchnorm" in layers)
        self.head = torch.nn.Linear(512 * (model["image_size"] // 32) ** 2, model["num_classes"])
        self.last = len(layers) - 1

    def forward(self, x):
        return self.head(self.features(x).flatten(1))

    def load_ours(self, state):
        names = {f"layers.{self.last}.": "head."}
        renamed = {}
        for name, value in state.items():
            layer, rest = name.removeprefix("layers.").split(".", 1)
            renamed[names.get(f"layers.{layer}.", f"features.{layer}.") + rest] = value
        # torchvision counts batches, which changes nothing.
        counters = {name: value for name, value in self.state_dict().items() if name.endswith("num_batches_tracked")}
        self.load_state_dict(renamed | counters, strict=True)


def check(ours, path):
    """Returns the library, and the largest difference of the logits."""
    with safe_open(path, "pt") as file:
        about = file.metadata()
    model, state = tomllib.loads(about["vitreous.config"])["model"], load_file(path)
    if model["kind"] == "vit":
        library, theirs = "timm", vision_transformer(model)
        theirs.load_state_dict(state, strict=True)
    else:
        library, theirs = "torchvision", Vgg(model)
        theirs.load_ours(state)
    size, channels = model["image_size"], model["channels"]
    pixels = np.random.default_rng(7).integers(0, 256, (size, size, channels), np.uint8)
    mean, std = (torch.tensor(json.loads(about["vitreous.normalization"])[key]).reshape(-1, 1, 1) for key in ("mean", "std"))
    images = (torch.from_numpy(pixels).permute(2, 0, 1) / 255 - mean) / std
    with torch.no_grad():
        expected = theirs.eval()(images[None])[0]
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.png"
        Image.fromarray(pixels.squeeze()).save(image)
        command = [ours, "import", path, "--check", image, "--json"]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["logits"]
    return library, (torch.tensor(found) - expected).abs().max().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", default="target/release/vitreous", help="the program")
    parser.add_argument("files", nargs="+")
    args = parser.parse_args()
    print("| file | library | strict | largest difference of logits |\n|---|---|---|---|")
    for path in args.files:
        library, difference = check(args.ours, path)
        print(f"| {path} | {library} | yes | {difference:.1e} |")


if __name__ == "__main__":
    main()

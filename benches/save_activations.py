#!/usr/bin/env python3
"""Saves what each layer of a vision transformer of timm, transformers or torchvision computes for an image, under the names
that vitreous gives to its layers:

    python3 -m venv venv && venv/bin/pip install torch torchvision timm transformers
    venv/bin/python benches/save_activations.py timm vit_tiny_patch16_224 cat.jpg cat.npz --weights vit_tiny.pth
    venv/bin/python benches/save_activations.py transformers deit-tiny/ cat.jpg cat.npz
    venv/bin/python benches/save_activations.py torchvision vit_b_16 cat.jpg cat.npz --weights vit_b_16.pth

`vitreous import vit_tiny.pth --check cat.jpg --activations cat.npz` then names the first layer that differs.
"""
import argparse
import re

import numpy as np
import torch
from PIL import Image

# Names of modules, as patterns, and the names of our layers.
LAYERS = {
    "timm": [(r"patch_embed", "patch_embed.proj"), (r"pos_drop", "pos_embed"), (r"blocks\.(\d+)\.norm1", r"blocks.\1.norm1"),
             (r"blocks\.(\d+)\.attn\.qkv", r"blocks.\1.attn.qkv"), (r"blocks\.(\d+)\.attn", r"blocks.\1.attn.proj"),
             (r"blocks\.(\d+)\.norm2", r"blocks.\1.norm2"), (r"blocks\.(\d+)\.mlp\.fc1", r"blocks.\1.mlp.fc1"),
             (r"blocks\.(\d+)\.mlp", r"blocks.\1.mlp.fc2"), (r"blocks\.(\d+)", r"blocks.\1.add2"), (r"norm", "norm"),
             (r"head", "head")],
    "transformers": [(r"\w+\.embeddings", "pos_embed"), (r".*\.(\d+)\.layernorm_before", r"blocks.\1.norm1"),
                     (r".*\.(\d+)\.layernorm_after", r"blocks.\1.norm2"), (r"classifier", "head"),
                     (r".*\.(?:layer|layers)\.(\d+)", r"blocks.\1.add2"), (r"\w+\.layernorm", "norm")],
    "torchvision": [(r"encoder\.dropout", "pos_embed"), (r".*encoder_layer_(\d+)\.ln_1", r"blocks.\1.norm1"),
                    (r".*encoder_layer_(\d+)\.self_attention", r"blocks.\1.attn.proj"),
                    (r".*encoder_layer_(\d+)\.ln_2", r"blocks.\1.norm2"), (r".*encoder_layer_(\d+)\.mlp", r"blocks.\1.mlp.fc2"),
                    (r".*encoder_layer_(\d+)", r"blocks.\1.add2"), (r"encoder\.ln", "norm"), (r"heads", "head")],
}


def record(model, library, pixels):
    """Runs a model on a batch of one image; returns the outputs of its layers as arrays by name."""
    found = {"input": pixels[0].numpy()}

    def keep(name):
        def hook(_module, _inputs, output):
            output = output[0] if isinstance(output, tuple) else output
            found[name] = output[0].detach().float().numpy()
        return hook

    hooks = []
    for name, module in model.named_modules():
        for pattern, ours in LAYERS[library]:
            if match := re.fullmatch(pattern, name):
                hooks.append(module.register_forward_hook(keep(match.expand(ours))))
                break
    with torch.no_grad():
        model(pixels)
    for hook in hooks:
        hook.remove()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", choices=LAYERS)
    parser.add_argument("model", help="a name; of transformers, a folder")
    parser.add_argument("image")
    parser.add_argument("output", help="the .npz file to write")
    parser.add_argument("--weights", help="a file of torch.save(model.state_dict())")
    args = parser.parse_args()
    image = Image.open(args.image).convert("RGB")
    if args.library == "timm":
        import timm
        model = timm.create_model(args.model, pretrained=args.weights is None)
        prepare = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
        pixels = prepare(image)[None]
    elif args.library == "transformers":
        import transformers
        model = transformers.AutoModelForImageClassification.from_pretrained(args.model)
        pixels = transformers.AutoImageProcessor.from_pretrained(args.model)(image, return_tensors="pt")["pixel_values"]
    else:
        import torchvision
        model = torchvision.models.get_model(args.model, weights=None if args.weights else "DEFAULT")
        prepare = torchvision.models.get_model_weights(args.model).DEFAULT.transforms()
        pixels = prepare(image)[None]
    if args.weights:
        model.load_state_dict(torch.load(args.weights, weights_only=True))
    np.savez(args.output, **record(model.eval(), args.library, pixels))


if __name__ == "__main__":
    main()

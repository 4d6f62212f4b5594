#!/usr/bin/env python3
"""Writes small files with weights as timm, transformers and NumPy save them, and what these libraries compute with them,
into crates/vitreous/tests/integration/importing; also the names and shapes of the larger models' tensors.

    python3 -m venv venv && venv/bin/pip install torch torchvision timm transformers
    venv/bin/python benches/make_import_golden.py

Made with PyTorch 2.15, torchvision 0.29, timm 1.0.31 and transformers 5.24.
"""
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import timm
import torch
import torchvision
import transformers
from PIL import Image
from safetensors.torch import save_file
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

from save_activations import record

OUT = Path(__file__).parent.parent / "crates/vitreous/tests/integration/importing"
SIZES = dict(img_size=16, patch_size=4, embed_dim=16, depth=2, num_heads=2, num_classes=5)
MEAN = STD = 0.5


def image(size, channels):
    """A picture that needs no scaling; its bytes come from a formula."""
    at = np.arange(size * size * channels)
    pixels = ((at * 37 + at // 7 * 11) % 256).astype(np.uint8).reshape(size, size, channels)
    Image.fromarray(pixels.squeeze(), "L" if channels == 1 else "RGB").save(OUT / f"image-{size}-{channels}.png")
    return (torch.from_numpy(pixels).float().permute(2, 0, 1)[None] / 255 - MEAN) / STD


def fill(model, seed):
    """Values that are neither small nor equal, so that a wrong order is seen."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                scale = 1.0 if value.ndim < 2 else 1.0 / math.sqrt(value[0].numel())
                value.copy_(torch.randn_like(value) * scale * 0.7)
                if "norm" in name and name.endswith("weight"):
                    value += 1.0
    return model.eval()


def logits(model, pixels):
    with torch.no_grad():
        found = model(pixels)
    found = getattr(found, "logits", found)
    return [round(value, 6) for value in found[0].tolist()]


def adapted(state, size, **changes):
    """timm's own adaptation to another image size, patch size or number of channels."""
    other = VisionTransformer(**{**SIZES, **changes}).eval()
    state = checkpoint_filter_fn(dict(state), other, interpolation="bicubic", antialias=True)
    weight = state["patch_embed.proj.weight"]
    state["patch_embed.proj.weight"] = timm.models.adapt_input_conv(other.patch_embed.proj.in_channels, weight)
    other.load_state_dict(state, strict=True)
    return logits(other, image(other.patch_embed.img_size[0], other.patch_embed.proj.in_channels))


def to_jax(state, heads, big_vision):
    """The arrays of a .npz file of AugReg, or of big_vision."""
    first, second, third = (0, 0, 1) if big_vision else (1, 3, 2)
    prefix = "params/" if big_vision else ""
    position = "pos_embedding" if big_vision else "Transformer/posembed_input/pos_embedding"
    arrays, value = {}, {name: tensor.numpy() for name, tensor in state.items()}
    width = value["norm.weight"].shape[0]

    def put(name, array):
        arrays[prefix + name] = np.ascontiguousarray(array)

    put("cls", value["cls_token"])
    put(position, value["pos_embed"])
    put("embedding/kernel", value["patch_embed.proj.weight"].transpose(2, 3, 1, 0))
    put("embedding/bias", value["patch_embed.proj.bias"])
    for i in range(2):
        ours, theirs = f"blocks.{i}.", f"Transformer/encoderblock_{i}/"
        for norm, number in (("norm1", 0), ("norm2", third)):
            put(f"{theirs}LayerNorm_{number}/scale", value[f"{ours}{norm}.weight"])
            put(f"{theirs}LayerNorm_{number}/bias", value[f"{ours}{norm}.bias"])
        attention = f"{theirs}MultiHeadDotProductAttention_{first}/"
        for part, weight, bias in zip(("query", "key", "value"), np.split(value[ours + "attn.qkv.weight"], 3),
                                      np.split(value[ours + "attn.qkv.bias"], 3)):
            put(f"{attention}{part}/kernel", weight.T.reshape(width, heads, -1))
            put(f"{attention}{part}/bias", bias.reshape(heads, -1))
        put(f"{attention}out/kernel", value[ours + "attn.proj.weight"].T.reshape(heads, -1, width))
        put(f"{attention}out/bias", value[ours + "attn.proj.bias"])
        for layer, number in (("fc1", 0), ("fc2", 1)):
            put(f"{theirs}MlpBlock_{second}/Dense_{number}/kernel", value[f"{ours}mlp.{layer}.weight"].T)
            put(f"{theirs}MlpBlock_{second}/Dense_{number}/bias", value[f"{ours}mlp.{layer}.bias"])
    put("Transformer/encoder_norm/scale", value["norm.weight"])
    put("Transformer/encoder_norm/bias", value["norm.bias"])
    put("head/kernel", value["head.weight"].T)
    put("head/bias", value["head.bias"])
    return arrays


def check_npz(path):
    """timm must read the file that was just made."""
    model = VisionTransformer(**SIZES).eval()
    model.load_pretrained(str(path))
    return logits(model, image(16, 3))


def shapes(model, only=""):
    lines = [f"{name} {'x'.join(map(str, value.shape))}" for name, value in model.state_dict().items()
             if name.startswith(only) and value.is_floating_point()]
    return "\n".join(sorted(lines)) + "\n"


def main():
    OUT.mkdir(exist_ok=True)
    expected, pixels = {}, image(16, 3)
    model = fill(VisionTransformer(**SIZES), 1)
    state = model.state_dict()
    expected["timm"] = logits(model, pixels)
    torch.save(state, OUT / "timm.pth")
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}, "epoch": 3},
               OUT / "timm-legacy.pth", _use_new_zipfile_serialization=False)
    save_file({name: value.to(torch.bfloat16) for name, value in state.items()}, OUT / "timm-bfloat16.safetensors")
    model.load_state_dict({name: value.to(torch.bfloat16) for name, value in state.items()})
    expected["timm-bfloat16"] = logits(model, pixels)
    model = fill(VisionTransformer(**SIZES), 1)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    expected["image_size 24"] = adapted(state, 24, img_size=24)
    expected["image_size 8"] = adapted(state, 8, img_size=8)
    expected["patch_size 8"] = adapted(state, 16, patch_size=8)
    expected["patch_size 2"] = adapted(state, 16, patch_size=2)
    expected["channels 1"] = adapted(state, 16, in_chans=1)

    np.savez(OUT / "activations.npz", **record(model, "timm", pixels))
    for block in model.blocks:
        for value in (block.attn.qkv.weight, block.attn.qkv.bias):
            query, key, rest = value.data.clone().chunk(3)
            value.data = torch.cat([key, query, rest])
    np.savez(OUT / "activations-qkv.npz", **record(model, "timm", pixels))

    np.savez_compressed(OUT / "augreg.npz", **to_jax(state, 2, False))
    np.savez(OUT / "big_vision.npz", **to_jax(state, 2, True))
    expected["augreg"], expected["big_vision"] = check_npz(OUT / "augreg.npz"), check_npz(OUT / "big_vision.npz")

    distilled = fill(VisionTransformerDistilled(**SIZES), 2)
    torch.save({"model": distilled.state_dict()}, OUT / "deit-distilled.pth")
    # Without the second token and its head, which is what is imported.
    plain = {name: value for name, value in distilled.state_dict().items() if "dist" not in name}
    plain["pos_embed"] = torch.cat([plain["pos_embed"][:, :1], plain["pos_embed"][:, 2:]], 1)
    model.load_state_dict(plain, strict=True)
    expected["deit-distilled"] = logits(model, pixels)

    config = transformers.ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
                                    image_size=16, patch_size=4, id2label={0: "ant", 1: "bee", 2: "cat"}, hidden_act="gelu_new")
    hugging_face = fill(transformers.ViTForImageClassification(config), 3)
    folder = OUT / "hugging-face"
    shutil.rmtree(folder, ignore_errors=True)
    hugging_face.save_pretrained(folder)
    preparation = {"do_normalize": True, "do_resize": True, "image_mean": [MEAN] * 3, "image_std": [STD] * 3, "resample": 2,
                   "size": {"height": 16, "width": 16}}
    (folder / "preprocessor_config.json").write_text(json.dumps(preparation, indent=2) + "\n")
    expected["hugging-face"] = logits(hugging_face, pixels)

    sixteen = torchvision.models.VisionTransformer(image_size=16, patch_size=4, num_layers=2, num_heads=2, hidden_dim=16,
                                                   mlp_dim=64, num_classes=5)
    torch.save(fill(sixteen, 4).state_dict(), OUT / "torchvision.pth")
    expected["torchvision"] = logits(sixteen, pixels)

    (OUT / "expected.json").write_text(re.sub(r",\s+(?=[-0-9])", ", ", json.dumps(expected, indent=1)) + "\n")
    for ours, theirs in (("vit-tiny", "vit_tiny_patch16_224"), ("vit-small", "vit_small_patch16_224"),
                         ("vit-base", "vit_base_patch16_224")):
        (OUT / f"{ours}.txt").write_text(shapes(timm.create_model(theirs)))
    for name in ("vgg11", "vgg16", "vgg16_bn"):
        (OUT / f"{name.replace('_', '-')}.txt").write_text(shapes(torchvision.models.get_model(name), "features."))


if __name__ == "__main__":
    main()

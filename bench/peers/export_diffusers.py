"""Loads the folder that d2c export --layout diffusers wrote in diffusers, strictly, and compares it with the public DiT
code on the same weights: export_diffusers.py DIT_CHECKOUT FOLDER PUBLIC.pt HEADS

Prints how far the outputs are apart, relative to their norm: with the frequencies of the step's embedding as diffusers has
them (10000^(-i/127)), and as the public code has them (10000^(-i/128)), which one attribute changes."""
import json
import os
import sys

import torch
from diffusers import DiTTransformer2DModel

checkout, folder, path, heads = sys.argv[1:4] + [int(sys.argv[4])]
sys.path.insert(0, checkout)

from models import DiT  # noqa: E402  (the public DiT's)


def public_model():
    state = torch.load(path, map_location="cpu")
    hidden, channels, patch, _ = state["x_embedder.proj.weight"].shape
    size = int(state["pos_embed"].shape[1] ** 0.5) * patch
    depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
    model = DiT(input_size=size, patch_size=patch, in_channels=channels, hidden_size=hidden, depth=depth, num_heads=heads,
                num_classes=len(state["y_embedder.embedding_table.weight"]) - 1)
    model.load_state_dict(state, strict=True)
    return model.eval()


@torch.no_grad()
def main():
    public = public_model()
    ours, info = DiTTransformer2DModel.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    ours.eval()
    with open(os.path.join(folder, "config.json")) as file:
        config = json.load(file)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(16, config["in_channels"], config["sample_size"], config["sample_size"], generator=generator)
    t = torch.linspace(0, 999, 16).round().long()
    y = torch.arange(16) % (config["num_embeds_ada_norm"] + 1)
    expected = public(x, t, y)
    theirs = ours(x, timestep=t, class_labels=y).sample
    for block in ours.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = 0
    exact = ours(x, timestep=t, class_labels=y).sample
    far, near = ((a - expected).norm() / expected.norm() for a in (theirs, exact))
    print(f"{folder}: loaded strictly; off by {far:.2g} of the output's norm as diffusers embeds steps, by {near:.2g} as the public code does")
    return bool(near > 1e-5)


sys.exit(main())

"""Writes the tiny models that the SQL and TAP tests call by name: python make_models.py test/golden/models

Weights are random, so the models score, but mean nothing.  Needs numpy and safetensors.
  tiny-sit      8x8x1 images, 10 classes         rgb-sit    16x16x3 images, 4 classes
  latent-sit    4x8x8 latents of tiny-vae        orphan-sit 2x4x4 latents, with no autoencoder
  nan-sit       tiny-sit with one NaN weight     prompt-sit tiny-sit with a text condition, of tiny-bert's width
  damaged-sit   tiny-sit cut in the middle       other      a safetensors file that is no model
"""
import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save


def sit(seed, channels, size, classes, hidden=24, depth=2, heads=2, patch=4, text_tokens=0, text_width=0):
    random = np.random.default_rng(seed)
    tensors = {}

    def add(name, *shape):
        tensors[name] = (random.standard_normal(shape) * 0.15).astype(np.float16)

    def linear(name, outputs, inputs):
        add(name + ".weight", outputs, inputs)
        add(name + ".bias", outputs)

    add("x_embedder.proj.weight", hidden, channels, patch, patch)
    add("x_embedder.proj.bias", hidden)
    linear("t_embedder.mlp.0", hidden, 256)
    linear("t_embedder.mlp.2", hidden, hidden)
    add("y_embedder.embedding_table.weight", classes + 1, hidden)
    add("pos_embed", 1, (size // patch) ** 2, hidden)
    for block in range(depth):
        linear(f"blocks.{block}.attn.qkv", 3 * hidden, hidden)
        linear(f"blocks.{block}.attn.proj", hidden, hidden)
        linear(f"blocks.{block}.mlp.fc1", 4 * hidden, hidden)
        linear(f"blocks.{block}.mlp.fc2", hidden, 4 * hidden)
        linear(f"blocks.{block}.adaLN_modulation.1", 6 * hidden, hidden)
    linear("final_layer.adaLN_modulation.1", 2 * hidden, hidden)
    linear("final_layer.linear", patch * patch * channels, hidden)
    if text_tokens > 0:
        add("text_embedder.conv.weight", hidden, text_width, text_tokens)
        add("text_embedder.conv.bias", hidden)
        linear("text_embedder.mlp.0", hidden, hidden)
        linear("text_embedder.mlp.2", hidden, hidden)
    config = dict(depth=depth, hidden=hidden, heads=heads, patch=patch, channels=channels, out_channels=channels,
                  height=size, width=size, classes=classes, null_class=1, path="linear", text_tokens=text_tokens, text_width=text_width,
                  proj_block=0, proj_hidden=0, proj_width=0)
    return tensors, {"d2c.sit": json.dumps(config)}


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    tensors, config = sit(1, 1, 8, 10)
    tiny = save(tensors, config)
    (folder / "tiny-sit.safetensors").write_bytes(tiny)
    (folder / "damaged-sit.safetensors").write_bytes(tiny[: len(tiny) // 2])
    (folder / "rgb-sit.safetensors").write_bytes(save(*sit(2, 3, 16, 4)))
    (folder / "latent-sit.safetensors").write_bytes(save(*sit(3, 4, 8, 10)))
    (folder / "latent-sit.json").write_text('{"vae": "tiny-vae"}\n')
    (folder / "orphan-sit.safetensors").write_bytes(save(*sit(4, 2, 4, 2, hidden=8, depth=1, heads=1)))
    (folder / "prompt-sit.safetensors").write_bytes(save(*sit(5, 1, 8, 1, text_tokens=6, text_width=32)))
    (folder / "prompt-sit.json").write_text('{"text_model": "tiny-bert"}\n')
    tensors, config = sit(1, 1, 8, 10, hidden=8, depth=1, heads=1)
    tensors["blocks.0.mlp.fc1.bias"][0] = np.nan
    (folder / "nan-sit.safetensors").write_bytes(save(tensors, config))
    (folder / "other.safetensors").write_bytes(save({"something": np.zeros(4, np.float32)}))


main()

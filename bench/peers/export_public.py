"""Loads what d2c export wrote in the public SiT code, strictly, and draws the images that d2c sample draws, from the same
noise by the same Euler steps: export_public.py SIT_CHECKOUT D2C MODEL.pt CHANNELS SIZE PATCH HIDDEN DEPTH HEADS [learn_sigma]

Prints the largest difference in a byte of a picture, and how many bytes differ."""
import os
import subprocess
import sys
import tempfile

import numpy as np
import torch
from PIL import Image

checkout, d2c, path = sys.argv[1:4]
channels, size, patch, hidden, depth, heads = map(int, sys.argv[4:10])
learn_sigma = sys.argv[10:] == ["learn_sigma"]
here = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [checkout, os.path.join(here, "..", "..", "test", "golden")]

from download import find_model  # noqa: E402  (the public SiT's, as its sample.py reads --ckpt)
from models import SiT  # noqa: E402
from philox import SAMPLE, images  # noqa: E402
from transport import Sampler, create_transport  # noqa: E402

COUNT, STEPS, SCALE = 12, 20, 2.0


@torch.no_grad()
def public_images():
    state = find_model(path)
    classes = len(state["y_embedder.embedding_table.weight"]) - 1
    model = SiT(input_size=size, patch_size=patch, in_channels=channels, hidden_size=hidden, depth=depth, num_heads=heads,
                num_classes=classes, learn_sigma=learn_sigma)
    model.load_state_dict(state, strict=True)
    model.eval()
    z = images(0, SAMPLE, range(COUNT), 0, (channels, size, size))
    y = torch.cat([torch.arange(COUNT) % classes, torch.full((COUNT,), classes)])
    solve = Sampler(create_transport("Linear", "velocity")).sample_ode(sampling_method="euler", num_steps=STEPS + 1)
    x = solve(torch.cat([z, z]), model.forward_with_cfg, y=y, cfg_scale=SCALE)[-1][:COUNT]
    return torch.clamp(127.5 * x + 128, 0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy().reshape(COUNT, size, size, channels)


def our_images():
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([d2c, "sample", "--model", path, "--num-samples", str(COUNT), "--steps", str(STEPS), "--cfg-scale",
                        str(SCALE), "--mixed-precision", "no", "--device", "cpu", "--output-dir", folder], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        files = sorted(os.listdir(folder))
        assert len(files) == COUNT, files
        return np.stack([np.asarray(Image.open(os.path.join(folder, f))).reshape(size, size, channels) for f in files])


theirs, ours = public_images(), our_images()
difference = np.abs(theirs.astype(int) - ours.astype(int))
print(f"{os.path.basename(path)}: loaded strictly; pictures vary by {ours.std():.1f}; largest difference {difference.max()} of 255, "
      f"in {np.count_nonzero(difference)} of {difference.size} bytes")
sys.exit(difference.max() > 1)

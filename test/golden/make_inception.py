"""Writes a narrow Inception-v3 for FID in the names of pytorch-fid's state_dict, and what pytorch-fid makes of images with
it.

    PYTHONPATH=pytorch-fid/src python make_inception.py

Needs torch, torchvision, safetensors, pillow, pytorch-fid, torch-fidelity and clean-fid.  The topology is pytorch-fid's
own code; every width but the image's is divided by 16 and the classifier has 40 classes, so that the file is small.
Writes models/tiny-inception.safetensors, and in inception/ two pictures and expected.safetensors: for each picture and
input variant ("pytorch-fid", "tensorflow", "clean-fid") every 23rd pixel of what the network takes, its features,
logits and the spatial features of sFID.  Pictures are resized in float32 as the public code does; the network then runs
in float64.
"""
import os

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from cleanfid.resize import make_resizer
from PIL import Image
from pytorch_fid import inception as fid
from safetensors.torch import save_file
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

here = os.path.dirname(os.path.abspath(__file__))
NARROW, CLASSES = 16, 40
plain = torchvision.models.inception.BasicConv2d


class NarrowConv2d(plain):
    def __init__(self, in_channels, out_channels, **kwargs):
        super().__init__(in_channels if in_channels == 3 else in_channels // NARROW, out_channels // NARROW, **kwargs)


built = []
build = fid._inception_v3


def narrow_inception(*args, **kwargs):
    model = build(*args, **kwargs)
    model.fc = torch.nn.Linear(2048 // NARROW, CLASSES)
    built.append(model)
    return model


def random_weights(*args, **kwargs):
    """Weights that keep the size of activations, and statistics that do not vanish."""
    draw = torch.Generator().manual_seed(7)
    state = built[-1].state_dict()
    for name, value in state.items():
        normal = lambda: torch.randn(value.shape, generator=draw)
        uniform = lambda low, high: low + (high - low) * torch.rand(value.shape, generator=draw)
        if name.endswith("conv.weight"):
            state[name] = normal() * (2 / value[0].numel()) ** 0.5
        elif name.endswith("running_var"):
            state[name] = uniform(0.3, 2)
        elif name.endswith("bn.weight"):
            state[name] = uniform(0.6, 1.6)
        elif name.endswith(("running_mean", "bn.bias")):
            state[name] = normal() * 0.3
        elif name.startswith("fc."):
            state[name] = normal() * 0.2
    return state


torchvision.models.inception.BasicConv2d = NarrowConv2d
fid._inception_v3 = narrow_inception
fid.load_state_dict_from_url = random_weights


def save(tensors, *path):
    save_file({name: t.contiguous() for name, t in tensors.items()}, os.path.join(here, *path))


def picture(width, height, seed):
    """Waves, edges and a little noise, in few enough colours to be a small PNG."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    planes = []
    for _ in range(3):
        a, b, c = rng.uniform(-0.3, 0.3, 3)
        wave = 127 + 90 * np.sin(a * x + b * y + c) + 60 * ((x // 9 + y // 7) % 2)
        planes.append(wave + rng.integers(0, 3, wave.shape) * 8)
    return (np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8) // 8) * 8


def as_pytorch_fid(pixels):
    x = torchvision.transforms.functional.to_tensor(Image.fromarray(pixels))[None]
    return 2 * F.interpolate(x, size=(299, 299), mode="bilinear", align_corners=False) - 1


def as_tensorflow(pixels):
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    return (interpolate_bilinear_2d_like_tensorflow1x(x, size=(299, 299), align_corners=False) - 128) / 128


def as_clean_fid(pixels):
    resized = make_resizer("PIL", False, "bicubic", (299, 299))(pixels)
    return (torch.from_numpy(resized).permute(2, 0, 1)[None] - 128) / 128


network = fid.InceptionV3(output_blocks=[3], resize_input=False, normalize_input=False).double().eval()
save({n: t for n, t in built[0].float().state_dict().items()}, "models", "tiny-inception.safetensors")
network.double()
classifier = built[0].fc.double().weight
branch = []
built[0].Mixed_6d.branch1x1.register_forward_hook(lambda module, inputs, output: branch.append(output))

expected = {}
for name, width, height in (("small", 61, 83), ("flat", 401, 37)):
    pixels = picture(width, height, width)
    Image.fromarray(pixels).save(os.path.join(here, "inception", name + ".png"), optimize=True)
    for kind, prepare in (("pytorch-fid", as_pytorch_fid), ("tensorflow", as_tensorflow), ("clean-fid", as_clean_fid)):
        x = prepare(pixels)
        assert x.dtype == torch.float32 and x.shape == (1, 3, 299, 299)
        features = network(x.double())[0].flatten()
        key = name + "." + kind + "."
        expected[key + "pixels"] = x[0, :, ::23, ::23].permute(1, 2, 0)
        expected[key + "features"] = features.float()
        expected[key + "logits"] = (classifier @ features).float()
        expected[key + "spatial"] = branch[-1][0, :7].permute(1, 2, 0).flatten().float()
        print(key, "features", features.mean().item(), features.std().item(), "spatial",
              branch[-1].mean().item(), branch[-1].std().item(), (branch[-1] > 0).double().mean().item())
save(expected, "inception", "expected.safetensors")

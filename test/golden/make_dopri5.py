"""Samples by torchdiffeq's dopri5, one image at a time: make_dopri5.py SIT_CHECKOUT REPA_CHECKOUT, writes sit/dopri5.golden.safetensors.

SiT through the public code's own sampler with its default tolerances; REPA, whose code has no adaptive solver, by the same
solver from 1 to 0."""
import functools
import importlib.util
import json
import os
import sys

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torchdiffeq import odeint

sit_checkout, repa_checkout = sys.argv[1:3]
sys.path.insert(0, sit_checkout)
folder = os.path.dirname(os.path.abspath(__file__))

from models import SiT  # noqa: E402  (the public SiT's)
from philox import SAMPLE, images  # noqa: E402
from transport import Sampler, create_transport  # noqa: E402

spec = importlib.util.spec_from_file_location("repa_models", repa_checkout + "/models/sit.py")
repa_models = importlib.util.module_from_spec(spec)
spec.loader.exec_module(repa_models)
repa_models.Attention = functools.partial(repa_models.Attention, norm_layer=torch.nn.LayerNorm)

SEEDS, LABELS, SHAPE = [5, 2**40 + 3], [1, 2], (4, 8, 8)


def one_by_one(solve):
    return torch.cat([solve(images(0, SAMPLE, [seed], 0, SHAPE), torch.tensor([label])) for seed, label in zip(SEEDS, LABELS)])


@torch.no_grad()
def sit_golden(golden):
    weights = load_file(f"{folder}/sit/latent.safetensors")
    with safe_open(f"{folder}/sit/latent.safetensors", "pt") as file:
        c = json.loads(file.metadata()["d2c.sit"])
    model = SiT(input_size=8, patch_size=c["patch"], in_channels=4, hidden_size=c["hidden"], depth=c["depth"], num_heads=c["heads"],
                num_classes=c["classes"], learn_sigma=c["out_channels"] == 8).eval()
    model.load_state_dict(weights, strict=True)
    for path in ("Linear", "VP"):
        solve = Sampler(create_transport(path, "velocity")).sample_ode(sampling_method="dopri5", num_steps=50)
        golden["dopri5." + path.lower()] = one_by_one(lambda x, y: solve(x, model, y=y)[-1])
    solve = Sampler(create_transport("Linear", "velocity")).sample_ode(sampling_method="dopri5", num_steps=50, atol=1e-7, rtol=1e-5)
    golden["dopri5.tight"] = one_by_one(lambda x, y: solve(x, model, y=y)[-1])


@torch.no_grad()
def repa_golden(golden):
    weights = load_file(f"{folder}/kinds/repa.safetensors")
    widths = [weights[k].shape[0] for k in sorted(weights) if k.startswith("projectors.") and k.endswith(".4.weight")]
    D, _, patch, _ = weights["x_embedder.proj.weight"].shape
    depth = 1 + max(int(k.split(".")[1]) for k in weights if k.startswith("blocks."))
    model = repa_models.SiT(path_type="linear", input_size=8, patch_size=patch, in_channels=4, hidden_size=D, decoder_hidden_size=D, depth=depth, encoder_depth=1,
                            num_heads=2, num_classes=len(weights["y_embedder.embedding_table.weight"]) - 1, use_cfg=True, z_dims=widths,
                            projector_dim=weights["projectors.0.0.weight"].shape[0], fused_attn=False, qk_norm=False).eval()
    model.load_state_dict(weights, strict=True)
    ends = torch.tensor([1.0, 0.0], dtype=torch.float64)

    def solve(x, y):
        return odeint(lambda t, x: model(x, t.float().expand(1), y)[0], x, ends, method="dopri5", atol=1e-6, rtol=1e-3)[-1]

    golden["dopri5.repa"] = one_by_one(solve)


golden = {}
sit_golden(golden)
repa_golden(golden)
save_file({k: v.float().contiguous() for k, v in golden.items()}, f"{folder}/sit/dopri5.golden.safetensors")
print({k: float(v.std()) for k, v in golden.items()})

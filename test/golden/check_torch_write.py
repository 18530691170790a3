"""What torch.load(weights_only=True) makes of torch/written.pt, which test_torch_write.c writes byte for byte.
After a change of the writer: build/unit/test_torch_write test/golden/torch/written.pt, then this script."""
import os
import torch

state = torch.load(os.path.join(os.path.dirname(os.path.abspath(__file__)), "torch", "written.pt"), weights_only=True)["ema"]
expected = {
    "a.weight": torch.tensor([[1, -2, 3.5], [0, 1e-30, -7]]),
    "h": torch.tensor([1, -2], dtype=torch.float16),
    "b": torch.tensor([0x3C00, 0xC000 - 0x10000], dtype=torch.int16).view(torch.bfloat16),
    "step": torch.tensor(-(2**63) + 1),
    "empty": torch.empty(0, 4),
    "wide": (torch.arange(300, dtype=torch.float32) / 3).view(300, 1, 1),
}
assert list(state) == list(expected)
for name, value in expected.items():
    assert state[name].dtype == value.dtype and state[name].shape == value.shape and torch.equal(state[name], value), name
print("torch reads", len(state), "tensors as they were written")

"""
Checks torch_unet.py against data that diffusers computed: outputs, odd sizes and gradients.

Usage: python3 verify_torch_unet.py FOLDER...
Each folder holds config.json, weights.safetensors, io.safetensors and grads.safetensors, where the gradients
are those of sum(eps * R).
"""

import json
import sys
from pathlib import Path

import torch

import safetensors_file
from torch_unet import UNet

# Of the largest gradient of a tensor, and of the largest of all: what fp32 with other summation orders meets.
TENSOR_TOLERANCE, MODEL_TOLERANCE = 1e-4, 1e-5


def tensors(path):
    return {name: torch.from_numpy(array) for name, array in safetensors_file.load(path).items()}


def verify(folder):
    unet = UNet(json.loads((folder / "config.json").read_text()))
    unet.load_state_dict(tensors(folder / "weights.safetensors"))
    io, expected = tensors(folder / "io.safetensors"), tensors(folder / "grads.safetensors")

    def run(prefix):
        names = ("sample", "timestep", "encoder_hidden_states", "text_embeds", "time_ids")
        return unet(*(io.get(f"{prefix}in.{name}") for name in names))

    output = run("")
    (output * io["in.R"]).sum().backward()
    worst_output = max(
        float((result - reference).abs().max() / max(1.0, float(reference.abs().max())))
        for result, reference in ((output, io["out.eps"]), (run("odd."), io["odd.out.eps"]))
    )
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    worst_gradient = max(
        float((parameter.grad - expected[name]).abs().max())
        / (TENSOR_TOLERANCE * float(expected[name].abs().max()) + MODEL_TOLERANCE * largest)
        for name, parameter in unet.named_parameters()
    )
    print(f"{folder.name}: output error {worst_output:.1e} (limit 1e-4), gradient error {worst_gradient:.3f} of the limit")
    return worst_output < 1e-4 and worst_gradient < 1


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(0 if all([verify(Path(folder)) for folder in sys.argv[1:]]) else 1)

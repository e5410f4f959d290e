"""
Writes the graphs that torch.onnx exports of a U-Net and of TAESD's decoder, with random weights, for benchmarks:
FOLDER/unet.onnx (sample, timestep, encoder_hidden_states) and FOLDER/decoder.onnx (latents).

    python3 torch_export.py --config unet.json --size 64x64 FOLDER
"""

import argparse
import json
from pathlib import Path

import torch
from torch import nn

from torch_train import random_inputs
from torch_unet import UNet

OPSET = 16  # the newest that PyTorch 1.13 exports with all of its optimisations


class TinyBlock(nn.Module):
    """TAESD's residual block: three convolutions."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x):
        return torch.relu(self.conv(x) + x)


class TinyDecoder(nn.Module):
    """AutoencoderTiny's decoder at its default configuration."""

    def __init__(self, latent_channels=4, channels=64, blocks=(3, 3, 3, 1)):
        super().__init__()
        layers = [nn.Conv2d(latent_channels, channels, 3, padding=1), nn.ReLU()]
        for stage, count in enumerate(blocks):
            layers += [TinyBlock(channels) for _ in range(count)]
            if stage < len(blocks) - 1:
                layers += [nn.Upsample(scale_factor=2), nn.Conv2d(channels, channels, 3, padding=1, bias=False)]
            else:
                layers.append(nn.Conv2d(channels, 3, 3, padding=1))
        self.layers = nn.Sequential(*layers)

    def forward(self, latents):
        return self.layers(torch.tanh(latents / 3) * 3) * 2 - 1


def export(module, inputs, path):
    torch.onnx.export(
        module.eval(), tuple(inputs.values()), path, input_names=list(inputs), output_names=["result"], opset_version=OPSET
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="a diffusers UNet2DConditionModel config.json")
    parser.add_argument("--size", default="64x64", help="height x width of the latents")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    config = json.loads(Path(arguments.config).read_text())
    torch.manual_seed(0)
    inputs, _ = random_inputs(config, 1, arguments.size)
    with torch.no_grad():
        export(UNet(config), inputs, arguments.folder / "unet.onnx")
        export(TinyDecoder(), {"latents": inputs["sample"]}, arguments.folder / "decoder.onnx")


if __name__ == "__main__":
    main()

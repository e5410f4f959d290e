"""
Writes the graphs that torch.onnx exports of a U-Net and of a tiny decoder, with random weights, for benchmarks:
FOLDER/unet.onnx (sample, timestep, encoder_hidden_states) and FOLDER/decoder.onnx (latents). Or times both in PyTorch, and
prints one line of JSON.

    python3 torch_export.py --config unet.json --decoder-config vae.json --size 64x64 FOLDER
    python3 torch_export.py --config unet.json --decoder-config vae.json --size 64x64 --time 5
"""

import argparse
import json
import resource
import statistics
from pathlib import Path

import torch
from torch import nn

from torch_train import CONTEXT_TOKENS, milliseconds, random_inputs
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
    """AutoencoderTiny's decoder."""

    def __init__(self, config):
        super().__init__()
        blocks, channels = config["num_decoder_blocks"], config["decoder_block_out_channels"][0]  # equal at all stages
        layers = [nn.Conv2d(config["latent_channels"], channels, 3, padding=1), nn.ReLU()]
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


def time_runs(module, inputs, runs):
    """Milliseconds until the first result, which touches the activations' memory for the first time, and of those after it."""
    module.eval()
    first, *rest = (milliseconds(lambda: module(*inputs.values()))[1] for _ in range(runs + 1))
    return {"firstMs": first, "ms": statistics.median(rest)}


def time_runs_on_gpu(module, inputs, runs):
    """The same in float16 on an NVIDIA GPU, by a CUDA graph of the kernels, which spares the time between them."""
    module = module.eval().to("cuda", torch.float16, memory_format=torch.channels_last)
    on_gpu = [x.to("cuda", torch.float16 if x.is_floating_point() else x.dtype) for x in inputs.values()]

    def timed(run):
        def synchronized():
            run()
            torch.cuda.synchronize()

        return milliseconds(synchronized)[1]

    first = timed(lambda: module(*on_gpu))
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            module(*on_gpu)
    torch.cuda.synchronize()
    eager = statistics.median(timed(lambda: module(*on_gpu)) for _ in range(runs))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        module(*on_gpu)
    return {"firstMs": first, "eagerMs": eager, "ms": statistics.median(timed(graph.replay) for _ in range(runs))}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="a diffusers UNet2DConditionModel config.json")
    parser.add_argument("--size", default="64x64", help="height x width of the latents")
    parser.add_argument("--tokens", type=int, default=CONTEXT_TOKENS, help="of the text")
    parser.add_argument("--decoder-config", required=True, help="a diffusers AutoencoderTiny config.json")
    parser.add_argument("--time", type=int, help="runs that are timed, in place of an export")
    parser.add_argument("--cuda", action="store_true", help="with --time: in float16 on an NVIDIA GPU")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("folder", type=Path, nargs="?")
    arguments = parser.parse_args()
    config = json.loads(Path(arguments.config).read_text())
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    inputs, _ = random_inputs(config, 1, arguments.size, arguments.tokens)
    latents = {"latents": inputs["sample"]}
    unet = UNet(config)
    decoder = TinyDecoder(json.loads(Path(arguments.decoder_config).read_text()))
    with torch.no_grad():
        if arguments.time is None:
            export(unet, inputs, arguments.folder / "unet.onnx")
            export(decoder, latents, arguments.folder / "decoder.onnx")
        else:
            timed = time_runs_on_gpu if arguments.cuda else time_runs
            times = {"unet": timed(unet, inputs, arguments.time), "decoder": timed(decoder, latents, arguments.time)}
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(json.dumps({**times, "unetAndDecoderPeakRssMb": round(peak)}))


if __name__ == "__main__":
    main()

"""
Times training steps of a Stable Diffusion U-Net in PyTorch on the CPU, or checks gradients against PyTorch's.

A step is what the project's own benchmark does: forward, backward of the mean squared error against a random
target, AdamW. One line of JSON goes to standard output. OPENBLAS_CORETYPE and ATEN_CPU_CAPABILITY act through the
environment, since both libraries read them while they load.

    python3 torch_train.py --config unet.json --batch 8 --size 32x32 --steps 10
    python3 torch_train.py --config unet.json --check first-step.safetensors
"""

import argparse
import json
import resource
import statistics
import sys
import time
from pathlib import Path

import numpy
import torch
from torch.nn import functional

import safetensors_file
from torch_unet import UNet

CONTEXT_TOKENS = 77  # CLIP's context length
TIME_IDS = 6  # SDXL: original size, crop, target size, two numbers each
INPUTS = ("sample", "timestep", "encoder_hidden_states", "text_embeds", "time_ids")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="a diffusers UNet2DConditionModel config.json")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", default="64x64", help="height x width of the latents")
    parser.add_argument("--steps", type=int, default=10, help="steps timed after the warm-up")
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layout", choices=("contiguous", "channels-last"), default="contiguous")
    parser.add_argument("--onednn", choices=("on", "off"), default="on")
    parser.add_argument("--optimizer", choices=("single", "foreach"), default="single")
    parser.add_argument("--dump", help="write parameters, inputs, loss and gradients of the first step here")
    parser.add_argument("--check", help="a dump of the project's benchmark; its gradients are compared with PyTorch's")
    parser.add_argument("--double", action="store_true", help="with --check: compare with float64")
    return parser.parse_args()


def random_inputs(config, batch, size, tokens=CONTEXT_TOKENS):
    height, width = (int(side) for side in size.split("x"))
    context = config["cross_attention_dim"]
    inputs = {
        "sample": torch.randn(batch, config["in_channels"], height, width),
        "timestep": torch.randint(0, 1000, (batch,)).float(),
        "encoder_hidden_states": torch.randn(batch, tokens, context if isinstance(context, int) else context[0]),
    }
    if config.get("addition_embed_type") == "text_time":
        embedded_ids = TIME_IDS * config["addition_time_embed_dim"]
        inputs["text_embeds"] = torch.randn(batch, config["projection_class_embeddings_input_dim"] - embedded_ids)
        inputs["time_ids"] = torch.full((batch, TIME_IDS), 512.0)
    target = torch.randn(batch, config["out_channels"], height, width)
    return inputs, target


def milliseconds(action):
    start = time.perf_counter()
    result = action()
    return result, 1000 * (time.perf_counter() - start)


def train(config, arguments):
    torch.manual_seed(arguments.seed)
    unet = UNet(config)
    inputs, target = random_inputs(config, arguments.batch, arguments.size)
    if arguments.layout == "channels-last":
        unet = unet.to(memory_format=torch.channels_last)
        inputs["sample"] = inputs["sample"].contiguous(memory_format=torch.channels_last)
        target = target.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-4, foreach=arguments.optimizer == "foreach")

    def forward_backward():
        optimizer.zero_grad(set_to_none=True)
        loss = functional.mse_loss(unet(**inputs), target)
        loss.backward()
        return loss.item()

    losses, forward_backward_times, step_times, forward_times = [], [], [], []
    for step in range(arguments.warmup + arguments.steps):
        if step == 0 and arguments.dump:
            before = {name: parameter.detach().clone() for name, parameter in unet.named_parameters()}
        loss, first = milliseconds(forward_backward)
        if step == 0 and arguments.dump:
            write_dump(arguments.dump, unet, before, inputs, target, loss)
        _, second = milliseconds(optimizer.step)
        losses.append(loss)
        if step >= arguments.warmup:
            forward_backward_times.append(first)
            step_times.append(first + second)
    peak_kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with torch.no_grad():
        for step in range(arguments.warmup + arguments.steps):
            _, duration = milliseconds(lambda: unet(**inputs))
            if step >= arguments.warmup:
                forward_times.append(duration)

    return {
        "backend": "pytorch-" + ".".join(torch.__version__.split(".")[:2]) + "-cpu",
        "compileMs": 0,
        "stepMs": round(statistics.median(step_times), 2),
        "forwardMs": round(statistics.median(forward_times), 2),
        "forwardBackwardMs": round(statistics.median(forward_backward_times), 2),
        "peakRssMb": round(peak_kilobytes / 1024),
        "lossFirst": losses[0],
        "lossLast": losses[-1],
    }


def write_dump(path, unet, before, inputs, target, loss):
    tensors = {f"param.{name}": parameter for name, parameter in before.items()}
    tensors.update({f"input.{name}": value for name, value in inputs.items()})
    tensors["input.target"] = target
    tensors["loss"] = torch.tensor(loss)
    tensors.update({f"grad.{name}": parameter.grad for name, parameter in unet.named_parameters()})
    safetensors_file.save(path, {name: numpy.ascontiguousarray(value.numpy()) for name, value in tensors.items()})


def check(config, arguments):
    """Per tensor: the largest difference over the largest value of PyTorch's gradient."""
    dump = safetensors_file.load(arguments.check)
    dtype = torch.float64 if arguments.double else torch.float32
    torch.set_default_dtype(dtype)

    def group(prefix):
        return {name[len(prefix) :]: torch.from_numpy(dump[name]) for name in dump if name.startswith(prefix)}

    unet = UNet(config).to(dtype)
    unet.load_state_dict({name: value.to(dtype) for name, value in group("param.").items()})
    inputs = {name: value.to(dtype) for name, value in group("input.").items()}
    unknown = set(inputs) - {*INPUTS, "target"}
    if unknown:
        sys.exit(f"{arguments.check}: unknown inputs {sorted(unknown)}; known: {INPUTS} and target")
    target = inputs.pop("target")
    loss = functional.mse_loss(unet(**inputs), target)
    loss.backward()
    gradients = group("grad.")
    expected = {name: parameter.grad for name, parameter in unet.named_parameters()}
    if set(gradients) != set(expected):
        sys.exit(f"{arguments.check}: gradients missing or too many: {sorted(set(gradients) ^ set(expected))}")
    # A gradient that is zero but for rounding (a key's bias before softmax) is measured against this floor.
    floor = 1e-6 * max(float(value.abs().max()) for value in expected.values())
    errors = {
        name: float((gradients[name] - value).abs().max()) / max(floor, float(value.abs().max()))
        for name, value in expected.items()
    }
    worst = sorted(errors, key=errors.get, reverse=True)
    return {
        "reference": f"pytorch-{'float64' if arguments.double else 'float32'}",
        "lossRelativeError": abs(float(dump["loss"]) - loss.item()) / abs(loss.item()),
        "worstRelativeError": errors[worst[0]],
        "medianRelativeError": statistics.median(errors.values()),
        "worstTensors": {name: errors[name] for name in worst[:5]},
    }


def main():
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    config = json.loads(Path(arguments.config).read_text())
    with torch.backends.mkldnn.flags(enabled=arguments.onednn == "on"):
        print(json.dumps(check(config, arguments) if arguments.check else train(config, arguments)))


if __name__ == "__main__":
    main()

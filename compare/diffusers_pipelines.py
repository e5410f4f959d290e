"""
The diffusers side of `npm run compare:diffusers`.

    python3 diffusers_pipelines.py make FOLDER   makes small random pipelines, FOLDER/pipelines/NAME, by save_pretrained
    python3 diffusers_pipelines.py draw FOLDER   draws each case of FOLDER/cases.json, with the noise of FOLDER/ours/CASE.safetensors,
                                                 into FOLDER/diffusers/CASE.safetensors: latents and images;
                                                 of a pipeline that was saved anew, FOLDER/saved/NAME is opened

FOLDER/cases.json lists the pipelines and the cases (src/cases.ts). "make" prints lines of JSON: the versions, and pipelines that
this environment cannot make.
"""

import functools
import importlib.metadata
import json
import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import torch

warnings.simplefilter("ignore")
torch.set_num_threads(1)  # these networks are too small for more
if int(torch.__version__.split(".")[0]) < 2:
    # With beta=0, PyTorch 1.13 lets NaN of uninitialised memory through.
    fused = torch.baddbmm
    torch.baddbmm = lambda i, a, b, *, beta=1, alpha=1: (
        torch.bmm(a, b) * alpha if beta == 0 else fused(i, a, b, beta=beta, alpha=alpha)
    )

import tokenizers

# An environment may be laid out by hand, with the names alone of the package tokenizers, of which the tokenizers in Python need
# one, and without the record of transformers' installation that diffusers looks for.
try:
    tokenizers.AddedToken("")
except NotImplementedError:

    class AddedToken:
        def __init__(self, content, single_word=False, lstrip=False, rstrip=False, special=False, normalized=None):
            self.content, self.single_word, self.lstrip, self.rstrip = content, single_word, lstrip, rstrip
            self.special, self.normalized = special, not special if normalized is None else normalized

        def __eq__(self, other):
            return isinstance(other, AddedToken) and self.__dict__ == other.__dict__

        def __hash__(self):
            return hash(self.content)

        def __str__(self):
            return self.content

        def __getstate__(self):
            return self.__dict__

        def __setstate__(self, state):
            self.__dict__.update(state)

    tokenizers.AddedToken = AddedToken

import transformers

try:
    importlib.metadata.version("transformers")
except importlib.metadata.PackageNotFoundError:
    records = tempfile.TemporaryDirectory()
    record = Path(records.name) / f"transformers-{transformers.__version__}.dist-info" / "METADATA"
    record.parent.mkdir()
    record.write_text(f"Metadata-Version: 2.1\nName: transformers\nVersion: {transformers.__version__}\n")
    sys.path.append(records.name)
import diffusers
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    ControlNetModel,
    DiffusionPipeline,
    LatentConsistencyModelPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

diffusers.utils.logging.set_verbosity_error()
transformers.utils.logging.set_verbosity_error()

# ---------------------------------------------------------------------------------------------------------------- make

MERGES = ["r e", "re d</w>", "a p", "ap p", "app l", "appl e</w>", "b l", "bl u", "blu e</w>", "c a", "ca t</w>"]


def tokenizer(folder, pad_token="<|endoftext|>"):
    """CLIP's, with the printable characters and a few merges."""
    folder.mkdir(parents=True, exist_ok=True)
    characters = [chr(code) for code in range(33, 127)]
    pieces = characters + [c + "</w>" for c in characters] + [merge.replace(" ", "") for merge in MERGES]
    vocabulary = pieces + ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(MERGES) + "\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), pad_token=pad_token, model_max_length=77)


def varied(model):
    """Norms and biases that are not 1 and 0, and prompts that matter, in place of a new model's."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
            elif "attn2.to_" in name:
                parameter.mul_(2)
    return model.eval()


def text_encoder(tokens, width=32, activation="quick_gelu", projection=None):
    config = CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        hidden_act=activation,
        bos_token_id=tokens.bos_token_id,
        eos_token_id=tokens.eos_token_id,
        pad_token_id=tokens.pad_token_id,
        projection_dim=projection or width,
    )
    return varied((CLIPTextModel if projection is None else CLIPTextModelWithProjection)(config))


def unet(**config):
    return varied(
        UNet2DConditionModel(
            **{
                "sample_size": 16,
                "layers_per_block": 1,
                "block_out_channels": (32, 64),
                "norm_num_groups": 8,
                "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
                "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
                "cross_attention_dim": 32,
                "attention_head_dim": 4,
                **config,
            }
        )
    )


def kl_autoencoder():
    return varied(
        AutoencoderKL(
            block_out_channels=(16, 32),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
            norm_num_groups=8,
            sample_size=32,
        )
    )


def tiny_autoencoder():
    return varied(
        AutoencoderTiny(
            encoder_block_out_channels=(16, 16),
            decoder_block_out_channels=(16, 16),
            num_encoder_blocks=(1, 1),
            num_decoder_blocks=(1, 1),
        )
    )


def control_net(model, **config):
    like = ControlNetModel.from_unet(model).config
    defaults = [name for name in like.get("_use_default_values", []) if name not in config]
    config = {"conditioning_embedding_out_channels": (8, 16), **config, "_use_default_values": defaults}
    net = ControlNetModel.from_config({**like, **config})
    with torch.no_grad():
        for parameter in net.parameters():  # the outputs of a new one are zeros
            if parameter.ndim > 1 and parameter.abs().max() == 0:
                parameter.normal_(std=0.1)
    return varied(net)


SD21 = {"attention_head_dim": (2, 4), "use_linear_projection": True}
XL = {
    **SD21,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2),
    "cross_attention_dim": 32 + 24,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 24,
}
SDXS = {
    **SD21,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "mid_block_type": None,
}
SDXS_09 = {**SD21, "down_block_types": ("CrossAttnDownBlock2D",) * 2, "up_block_types": ("CrossAttnUpBlock2D",) * 2}
SDXS_09 = {**SDXS_09, "mid_block_type": None, "only_cross_attention": (True, False)}

# By the families' names: the U-Net's configuration, the autoencoder, the text encoder's activation, ControlNets' configurations.
FAMILIES = {
    "sd15": ({}, kl_autoencoder, "quick_gelu", []),
    "sd15-control": ({}, kl_autoencoder, "quick_gelu", [{}]),
    "sd15-controls": ({}, kl_autoencoder, "quick_gelu", [{}, {}]),
    "sd15-pooled": ({}, kl_autoencoder, "quick_gelu", [{"global_pool_conditions": True}]),
    "sd21": (SD21, kl_autoencoder, "gelu", []),
    "sd21-v": ({**SD21, "upcast_attention": True}, kl_autoencoder, "gelu", []),
    "sdxl": (XL, kl_autoencoder, "quick_gelu", []),
    "sdxl-control": (XL, kl_autoencoder, "quick_gelu", [{}]),
    "sdxs": (SDXS, tiny_autoencoder, "gelu", []),
    "sdxs-0.9": (SDXS_09, tiny_autoencoder, "gelu", []),
    "lcm": ({"time_cond_proj_dim": 16}, kl_autoencoder, "quick_gelu", []),
}


def make_family(folder, name, scheduler):
    config, autoencoder, activation, controls = FAMILIES[name]
    torch.manual_seed(sorted(FAMILIES).index(name))
    tokens = tokenizer(folder / "vocabulary")
    model = unet(**config)
    nets = [control_net(model, **given) for given in controls]
    components = {
        "vae": autoencoder(),
        "text_encoder": text_encoder(tokens, activation=activation),
        "tokenizer": tokens,
        "unet": model,
        "scheduler": scheduler,
        **({"controlnet": nets[0] if len(nets) == 1 else nets} if nets else {}),
    }
    if "addition_embed_type" in config:
        second = tokenizer(folder / "vocabulary", pad_token="!")
        components["tokenizer_2"] = second
        components["text_encoder_2"] = text_encoder(second, width=24, activation="gelu", projection=24)
        kind = StableDiffusionXLControlNetPipeline if nets else StableDiffusionXLPipeline
        pipeline = kind(**components, add_watermarker=False)
    else:
        kind = StableDiffusionControlNetPipeline if nets else StableDiffusionPipeline
        if name == "lcm":
            kind = LatentConsistencyModelPipeline
        pipeline = kind(**components, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipeline.save_pretrained(folder)
    shutil.rmtree(folder / "vocabulary")


def make(folder):
    """A family's models once; of further pipelines only the scheduler and the settings are their own."""
    first = {}
    for pipeline in json.loads((folder / "cases.json").read_text())["pipelines"]:
        place = folder / "pipelines" / pipeline["name"]
        kind = getattr(diffusers, pipeline["scheduler"]["_class_name"])
        try:
            scheduler = kind.from_config(pipeline["scheduler"])
        except ImportError as error:  # as of scipy
            print(json.dumps({"pipeline": pipeline["name"], "missing": " ".join(str(error).split())}), flush=True)
            continue
        place.mkdir(parents=True)
        base = first.setdefault(pipeline["family"], place)
        if base is place:
            make_family(place, pipeline["family"], scheduler)
        for entry in base.iterdir():
            if base is not place and entry.name not in ("scheduler", "model_index.json"):
                os.symlink(entry, place / entry.name)
        # As the checkpoint has it: a pipeline changes it when it is opened.
        scheduler = kind.from_config(pipeline["scheduler"])
        scheduler.save_pretrained(place / "scheduler")
        index = json.loads((base / "model_index.json").read_text())
        index = {**index, "scheduler": ["diffusers", kind.__name__], **pipeline.get("settings", {})}
        (place / "model_index.json").write_text(json.dumps(index, indent=2))
    versions = {module.__name__: module.__version__ for module in (diffusers, transformers, torch)}
    print(json.dumps({"versions": versions}))


# ---------------------------------------------------------------------------------------------------------------- draw


class GivenNoise:
    """Stands in for `randn_tensor` everywhere in diffusers: gives what the other side used, by where it is asked for."""

    def __init__(self):
        self.begin([], {})
        for name, module in list(sys.modules.items()):
            if name.startswith("diffusers.") and hasattr(module, "randn_tensor"):
                module.randn_tensor = self

    def begin(self, names, tensors):
        self.waiting, self.tensors, self.step, self.inside = list(names), tensors, -1, False

    def watch(self, scheduler):
        original = scheduler.step

        @functools.wraps(original)  # pipelines look at what it takes
        def step(*arguments, **options):
            self.step += 1
            self.inside = True
            try:
                return original(*arguments, **options)
            finally:
                self.inside = False

        scheduler.step = step

    def __call__(self, shape, *_, **__):
        noise = self.tensors[f"step.{self.step}" if self.inside else self.waiting.pop(0)]
        if tuple(noise.shape) != tuple(shape):
            raise ValueError(f"the noise has the shape {tuple(noise.shape)}, diffusers asks for {tuple(shape)}")
        return noise.clone()


IMAGE_TO_IMAGE = {
    StableDiffusionPipeline: StableDiffusionImg2ImgPipeline,
    StableDiffusionXLPipeline: StableDiffusionXLImg2ImgPipeline,
    # Not LatentConsistencyModelImg2ImgPipeline, to which a strength means another schedule and not fewer steps.
    LatentConsistencyModelPipeline: StableDiffusionImg2ImgPipeline,
}


def draw_case(pipeline, case, given, noise):
    options = {
        "prompt": case["prompts"],
        "num_inference_steps": case["steps"],
        "guidance_scale": case["guidanceScale"],
        "output_type": "pt",
    }
    if "negativePrompt" in case:
        options["negative_prompt"] = [case["negativePrompt"]] * len(case["prompts"])
    if "eta" in case:
        options["eta"] = case["eta"]
    if "strength" in case:
        pipeline = IMAGE_TO_IMAGE[type(pipeline)](**pipeline.components)
        pipeline.set_progress_bar_config(disable=True)
        options.update(image=(given["image"] + 1) / 2, strength=case["strength"])
        is_random = not isinstance(pipeline.vae, AutoencoderTiny)
        noise.begin([*(["posterior"] if is_random else []), "noise"], given)
    else:
        options.update(latents=given["noise"], height=case["height"], width=case["width"])
        noise.begin([], given)
    if case["controls"]:
        images = [given[f"control.{index}"] for index in range(len(case["controls"]))]
        scales = [float(scale) for scale in case["controls"]]
        several = len(images) > 1
        options["image"] = images if several else images[0]
        options["controlnet_conditioning_scale"] = scales if several else scales[0]
    latents = []

    def keep(_pipeline, _index, _timestep, tensors):
        latents[:] = [tensors["latents"].clone()]
        return tensors

    images = pipeline(**options, callback_on_step_end=keep).images
    return {"latents": latents[0], "images": 2 * images - 1}


def draw(folder):
    listed = json.loads((folder / "cases.json").read_text())
    noise = GivenNoise()
    (folder / "diffusers").mkdir(exist_ok=True)
    for entry in listed["pipelines"]:
        ours = folder / "ours"
        cases = [case for case in listed["cases"] if case["pipeline"] == entry["name"]]
        cases = [case for case in cases if (ours / f"{case['name']}.safetensors").exists()]
        if not cases:
            continue
        made = "saved" if "saved" in entry else "pipelines"
        pipeline = DiffusionPipeline.from_pretrained(folder / made / entry["name"])
        pipeline.set_progress_bar_config(disable=True)
        noise.watch(pipeline.scheduler)
        for case in cases:
            given = load_file(ours / f"{case['name']}.safetensors")
            try:
                with torch.no_grad():
                    drawn = draw_case(pipeline, case, given, noise)
            except Exception as error:  # it is a case that diffusers does not have
                print(json.dumps({"name": case["name"], "error": f"{type(error).__name__}: {error}"}), flush=True)
                continue
            drawn = {name: tensor.float().contiguous() for name, tensor in drawn.items()}
            save_file(drawn, folder / "diffusers" / f"{case['name']}.safetensors")
            print(json.dumps({"name": case["name"]}), flush=True)


if __name__ == "__main__":
    {"make": make, "draw": draw}[sys.argv[1]](Path(sys.argv[2]).resolve())

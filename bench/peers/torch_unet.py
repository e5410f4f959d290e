"""
The conditional U-Net of Stable Diffusion in PyTorch, under diffusers' configuration and parameter names.

It runs the same kernels as diffusers does on PyTorch 1.13 (convolutions, group and layer normalisation,
`baddbmm`, softmax and `bmm` for attention, linear layers on [batch, tokens, features]), so it stands in
for diffusers' UNet2DConditionModel in benchmarks, and its autograd checks the project's own gradients.
"""

import math

import torch
from torch import nn
from torch.nn import functional

# Fields of a config that only this value is implemented for.
_SUPPORTED = {
    "act_fn": ("silu",),
    "addition_embed_type": (None, "text_time"),
    "attention_type": ("default",),
    "center_input_sample": (False,),
    "class_embed_type": (None,),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
    "cross_attention_norm": (None,),
    "downsample_padding": (1,),
    "dropout": (0.0,),
    "dual_cross_attention": (False,),
    "encoder_hid_dim": (None,),
    "encoder_hid_dim_type": (None,),
    "mid_block_scale_factor": (1,),
    "resnet_out_scale_factor": (1.0,),
    "resnet_skip_time_act": (False,),
    "resnet_time_scale_shift": ("default",),
    "time_cond_proj_dim": (None,),
    "time_embedding_act_fn": (None,),
    "time_embedding_dim": (None,),
    "time_embedding_type": ("positional",),
    "timestep_post_act": (None,),
}


class Attention(nn.Module):
    def __init__(self, channels, heads, context_channels):
        super().__init__()
        self.heads = heads
        self.scale = (channels // heads) ** -0.5
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context_channels, channels, bias=False)
        self.to_v = nn.Linear(context_channels, channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def split_heads(self, x):
        batch, tokens, channels = x.shape
        x = x.reshape(batch, tokens, self.heads, channels // self.heads).permute(0, 2, 1, 3)
        return x.reshape(batch * self.heads, tokens, channels // self.heads)

    def join_heads(self, x):
        batch, tokens, size = x.shape[0] // self.heads, x.shape[1], x.shape[2]
        return x.reshape(batch, self.heads, tokens, size).permute(0, 2, 1, 3).reshape(batch, tokens, -1)

    def forward(self, x, context):
        query = self.split_heads(self.to_q(x))
        key = self.split_heads(self.to_k(context))
        value = self.split_heads(self.to_v(context))
        if query.is_cuda:  # the fused kernel of PyTorch 2, as diffusers has it there
            attended = functional.scaled_dot_product_attention(query, key, value, scale=self.scale)
            return self.to_out[0](self.join_heads(attended))
        unused = torch.empty(query.shape[0], query.shape[1], key.shape[1], dtype=query.dtype)
        scores = torch.baddbmm(unused, query, key.transpose(-1, -2), beta=0, alpha=self.scale)
        return self.to_out[0](self.join_heads(torch.bmm(scores.softmax(dim=-1), value)))


class GatedGelu(nn.Module):
    def __init__(self, channels, inner):
        super().__init__()
        self.proj = nn.Linear(channels, 2 * inner)

    def forward(self, x):
        x, gate = self.proj(x).chunk(2, dim=-1)
        return x * functional.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.net = nn.ModuleList([GatedGelu(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels)])

    def forward(self, x):
        return self.net[2](self.net[0](x))


class TransformerBlock(nn.Module):
    def __init__(self, channels, heads, context_channels, only_cross_attention):
        super().__init__()
        self.only_cross_attention = only_cross_attention
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = Attention(channels, heads, context_channels if only_cross_attention else channels)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = Attention(channels, heads, context_channels)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels)

    def forward(self, x, context):
        normalized = self.norm1(x)
        x = self.attn1(normalized, context if self.only_cross_attention else normalized) + x
        x = self.attn2(self.norm2(x), context) + x
        return self.ff(self.norm3(x)) + x


class Transformer(nn.Module):
    def __init__(self, channels, heads, layers, context_channels, linear, groups, only_cross_attention):
        super().__init__()
        self.linear = linear
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels) if linear else nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(channels, heads, context_channels, only_cross_attention) for _ in range(layers)
        )
        self.proj_out = nn.Linear(channels, channels) if linear else nn.Conv2d(channels, channels, 1)

    def forward(self, x, context):
        batch, channels, height, width = x.shape
        residual = x
        x = self.norm(x)
        if not self.linear:
            x = self.proj_in(x)
        x = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        if self.linear:
            x = self.proj_in(x)
        for block in self.transformer_blocks:
            x = block(x, context)
        if self.linear:
            x = self.proj_out(x)
        x = x.reshape(batch, height, width, channels).permute(0, 3, 1, 2).contiguous()
        if not self.linear:
            x = self.proj_out(x)
        return x + residual


class ResnetBlock(nn.Module):
    def __init__(self, in_channels, out_channels, time_channels, groups, epsilon):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, in_channels, eps=epsilon)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time_emb_proj = nn.Linear(time_channels, out_channels)
        self.norm2 = nn.GroupNorm(groups, out_channels, eps=epsilon)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, x, time):
        h = self.conv1(functional.silu(self.norm1(x)))
        h = h + self.time_emb_proj(functional.silu(time))[:, :, None, None]
        h = self.conv2(functional.silu(self.norm2(h)))
        return (x if self.conv_shortcut is None else self.conv_shortcut(x)) + h


class Resample(nn.Module):
    """Down: convolution of stride 2. Up: nearest neighbour to a size, then a convolution."""

    def __init__(self, channels, stride):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=stride, padding=1)

    def forward(self, x, size=None):
        return self.conv(x if size is None else functional.interpolate(x, size=size, mode="nearest"))


class DownBlock(nn.Module):
    def __init__(self, resnets, attentions, downsampler):
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        self.attentions = nn.ModuleList(attentions) if attentions else None
        self.downsamplers = nn.ModuleList([downsampler]) if downsampler else None

    def forward(self, x, time, context, skips):
        for i, resnet in enumerate(self.resnets):
            x = resnet(x, time)
            if self.attentions is not None:
                x = self.attentions[i](x, context)
            skips.append(x)
        if self.downsamplers is not None:
            x = self.downsamplers[0](x)
            skips.append(x)
        return x


class MidBlock(nn.Module):
    def __init__(self, resnets, attentions):
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        self.attentions = nn.ModuleList(attentions)

    def forward(self, x, time, context):
        x = self.resnets[0](x, time)
        for resnet, attention in zip(self.resnets[1:], self.attentions):
            x = resnet(attention(x, context), time)
        return x


class UpBlock(nn.Module):
    def __init__(self, resnets, attentions, upsampler):
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        self.attentions = nn.ModuleList(attentions) if attentions else None
        self.upsamplers = nn.ModuleList([upsampler]) if upsampler else None

    def forward(self, x, time, context, skips):
        for i, resnet in enumerate(self.resnets):
            x = resnet(torch.cat([x, skips.pop()], dim=1), time)
            if self.attentions is not None:
                x = self.attentions[i](x, context)
        if self.upsamplers is not None:
            # An odd size comes back as it was before the downsampling.
            x = self.upsamplers[0](x, skips[-1].shape[2:])
        return x


class TimestepEmbedding(nn.Module):
    def __init__(self, in_channels, channels):
        super().__init__()
        self.linear_1 = nn.Linear(in_channels, channels)
        self.linear_2 = nn.Linear(channels, channels)

    def forward(self, x):
        return self.linear_2(functional.silu(self.linear_1(x)))


def sinusoids(values, channels, flip_sin_to_cos, freq_shift):
    """Sines and cosines of values [n] at `channels` / 2 frequencies from 1 down to 1 / 10000: [n, channels]."""
    half = channels // 2
    exponents = -math.log(10000) * torch.arange(half, dtype=torch.float32, device=values.device) / (half - freq_shift)
    angles = values.float()[:, None] * torch.exp(exponents)[None, :]
    parts = [angles.cos(), angles.sin()] if flip_sin_to_cos else [angles.sin(), angles.cos()]
    return torch.cat(parts, dim=-1)


class UNet(nn.Module):
    """UNet2DConditionModel for the configs of SD 1.x, SD 2.x, SDXL and the networks distilled from them."""

    def __init__(self, config):
        super().__init__()
        for field, values in _SUPPORTED.items():
            if config.get(field, values[0]) not in values:
                raise ValueError(f"config.{field}: one of {values} is implemented, got {config[field]!r}")
        self.config = config
        channels = config["block_out_channels"]
        levels = len(channels)
        groups, epsilon = config.get("norm_num_groups", 32), config.get("norm_eps", 1e-5)
        time_channels = 4 * channels[0]

        def per_level(value):
            return list(value) if isinstance(value, (list, tuple)) else [value] * levels

        # diffusers names the number of heads "attention_head_dim".
        heads = per_level(config.get("num_attention_heads") or config.get("attention_head_dim", 8))
        context_channels = per_level(config.get("cross_attention_dim", 1280))
        only_cross = per_level(config.get("only_cross_attention", False))
        resnets_per_level = per_level(config.get("layers_per_block", 2))
        depths = per_level(config.get("transformer_layers_per_block", 1))
        up_depths = config.get("reverse_transformer_layers_per_block") or depths[::-1]
        linear = config.get("use_linear_projection", False)

        def resnet(in_channels, out_channels):
            return ResnetBlock(in_channels, out_channels, time_channels, groups, epsilon)

        def transformers(level, count, depth):
            depths_in_block = depth if isinstance(depth, (list, tuple)) else [depth] * count
            return [
                Transformer(
                    channels[level], heads[level], layers, context_channels[level], linear, groups, only_cross[level]
                )
                for layers in depths_in_block
            ]

        self.conv_in = nn.Conv2d(config.get("in_channels", 4), channels[0], 3, padding=1)
        self.time_embedding = TimestepEmbedding(channels[0], time_channels)
        if config.get("addition_embed_type") == "text_time":
            self.add_embedding = TimestepEmbedding(config["projection_class_embeddings_input_dim"], time_channels)

        self.down_blocks = nn.ModuleList()
        before = channels[0]
        for level, kind in enumerate(config["down_block_types"]):
            count = resnets_per_level[level]
            resnets = [resnet(before if i == 0 else channels[level], channels[level]) for i in range(count)]
            attentions = transformers(level, count, depths[level]) if kind == "CrossAttnDownBlock2D" else None
            downsampler = Resample(channels[level], stride=2) if level < levels - 1 else None
            self.down_blocks.append(DownBlock(resnets, attentions, downsampler))
            before = channels[level]

        mid = config.get("mid_block_type", "UNetMidBlock2DCrossAttn")
        if mid == "UNetMidBlock2DCrossAttn":
            resnets = [resnet(before, before), resnet(before, before)]
            self.mid_block = MidBlock(resnets, transformers(levels - 1, 1, depths[-1]))
        else:
            self.mid_block = MidBlock([resnet(before, before)], []) if mid == "UNetMidBlock2D" else None

        self.up_blocks = nn.ModuleList()
        for step, kind in enumerate(config["up_block_types"]):
            level = levels - 1 - step
            out_channels, skip_at_end = channels[level], channels[max(level - 1, 0)]
            count = resnets_per_level[level] + 1
            resnets = [
                resnet(
                    (before if i == 0 else out_channels) + (skip_at_end if i == count - 1 else out_channels),
                    out_channels,
                )
                for i in range(count)
            ]
            attentions = transformers(level, count, up_depths[step]) if kind == "CrossAttnUpBlock2D" else None
            upsampler = Resample(out_channels, stride=1) if level > 0 else None
            self.up_blocks.append(UpBlock(resnets, attentions, upsampler))
            before = out_channels

        self.conv_norm_out = nn.GroupNorm(groups, channels[0], eps=epsilon)
        self.conv_out = nn.Conv2d(channels[0], config.get("out_channels", 4), 3, padding=1)

    def embed(self, values, channels):
        flip, shift = self.config.get("flip_sin_to_cos", True), self.config.get("freq_shift", 0)
        return sinusoids(values, channels, flip, shift).to(self.conv_in.weight.dtype)

    def forward(self, sample, timestep, encoder_hidden_states, text_embeds=None, time_ids=None):
        """sample [batch, in_channels, height, width], timestep [batch], encoder_hidden_states [batch, tokens, features]."""
        time = self.time_embedding(self.embed(timestep, self.config["block_out_channels"][0]))
        if text_embeds is not None:
            ids = self.embed(time_ids.flatten(), self.config["addition_time_embed_dim"])
            time = time + self.add_embedding(torch.cat([text_embeds, ids.reshape(len(text_embeds), -1)], dim=-1))
        x = self.conv_in(sample)
        skips = [x]
        for block in self.down_blocks:
            x = block(x, time, encoder_hidden_states, skips)
        if self.mid_block is not None:
            x = self.mid_block(x, time, encoder_hidden_states)
        for block in self.up_blocks:
            x = block(x, time, encoder_hidden_states, skips)
        return self.conv_out(functional.silu(self.conv_norm_out(x)))

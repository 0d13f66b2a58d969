"""Random text-to-video pipelines of a few thousand weights, built from configurations."""

from __future__ import annotations

from typing import Any

import torch

from tiny_models import tokenizer as tiny_tokenizer


def wan() -> Any:
    """Flow matching, a transformer, a VAE of four frames to one: the family of Wan."""
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    torch.manual_seed(0)
    words = tiny_tokenizer()
    config = UMT5Config(
        vocab_size=len(words), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, pad_token_id=0, eos_token_id=1
    )
    vae = AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[0.1, 0.2, 0.3, 0.4], latents_std=[1.0, 2.0, 1.0, 2.0],
    )  # fmt: skip
    network = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=16,
        freq_dim=16, ffn_dim=16, num_layers=1, cross_attn_norm=True, qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )  # fmt: skip
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    return WanPipeline(
        tokenizer=words, text_encoder=UMT5EncoderModel(config), transformer=network, vae=vae, scheduler=scheduler
    )


def animate_diff() -> Any:
    """Noise prediction, a UNet with motion modules, a VAE of pictures: the family of AnimateDiff."""
    from diffusers import AnimateDiffPipeline, AutoencoderKL, DDIMScheduler, UNetMotionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    words = tiny_tokenizer()
    words.model_max_length = 16
    text = CLIPTextConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=16, pad_token_id=0, bos_token_id=1, eos_token_id=1,
    )  # fmt: skip
    network = UNetMotionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=2,
        down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
        up_block_types=("UpBlockMotion", "CrossAttnUpBlockMotion"), cross_attention_dim=16, num_attention_heads=2,
        motion_num_attention_heads=2, motion_max_seq_length=8, use_motion_mid_block=False,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, norm_num_groups=2, sample_size=16,
    )  # fmt: skip
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="linear", clip_sample=False)
    return AnimateDiffPipeline(
        vae=vae, text_encoder=CLIPTextModel(text), tokenizer=words, unet=network, motion_adapter=None,
        scheduler=scheduler,
    )  # fmt: skip


def cogvideox() -> Any:
    """Velocity prediction over a table of noise, frames before channels: the family of CogVideoX."""
    from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXPipeline, CogVideoXTransformer3DModel
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    words = tiny_tokenizer()
    words.model_max_length = 16
    network = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=2,
        text_embed_dim=16, num_layers=1, sample_width=8, sample_height=8, sample_frames=9, patch_size=2,
        temporal_compression_ratio=4, max_text_seq_length=16, use_rotary_positional_embeddings=True,
    )  # fmt: skip
    vae = AutoencoderKLCogVideoX(
        in_channels=3, out_channels=3, down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4, block_out_channels=(8, 8, 8, 8), latent_channels=4,
        layers_per_block=1, norm_num_groups=2, temporal_compression_ratio=4,
    )  # fmt: skip
    text = T5Config(vocab_size=len(words), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return CogVideoXPipeline(
        tokenizer=words, text_encoder=T5EncoderModel(text), vae=vae, transformer=network,
        scheduler=CogVideoXDDIMScheduler(prediction_type="v_prediction"),
    )  # fmt: skip


def ltx() -> Any:
    """Flow matching on packed tokens: the family of LTX-Video."""
    from diffusers import (
        AutoencoderKLLTXVideo,
        FlowMatchEulerDiscreteScheduler,
        LTXPipeline,
        LTXVideoTransformer3DModel,
    )
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    words = tiny_tokenizer()
    words.model_max_length = 16
    network = LTXVideoTransformer3DModel(
        in_channels=8, out_channels=8, num_attention_heads=2, attention_head_dim=8, cross_attention_dim=16,
        num_layers=1, caption_channels=16,
    )  # fmt: skip
    vae = AutoencoderKLLTXVideo(
        in_channels=3, out_channels=3, latent_channels=8, block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8), layers_per_block=(1, 1, 1, 1, 1), decoder_layers_per_block=(1,) * 5,
        spatio_temporal_scaling=(True, True, False, False), decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False,) * 5, upsample_residual=(False,) * 4, upsample_factor=(1,) * 4, patch_size=1,
        timestep_conditioning=False,
    )  # fmt: skip
    text = T5Config(vocab_size=len(words), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return LTXPipeline(
        tokenizer=words, text_encoder=T5EncoderModel(text), vae=vae, transformer=network,
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )  # fmt: skip


# family -> pipeline, frames, (height, width), shape of the latents of one clip
FAMILIES = {
    "wan": (wan, 9, (32, 32), (4, 3, 4, 4)),
    "animate_diff": (animate_diff, 3, (16, 16), (4, 3, 8, 8)),
    "cogvideox": (cogvideox, 9, (64, 64), (4, 3, 8, 8)),
    "ltx": (ltx, 9, (32, 32), (8, 3, 8, 8)),
}

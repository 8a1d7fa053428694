"""The shape of the demo model, in the layout of a published Gemma 4 26B-A4B folder.

`model_config(ids, vocab)` is config.json; everything else that describes the model follows from it.
"""
SLIDING, FULL = "sliding_attention", "full_attention"

# Token texts whose ids config.json must name. The ids themselves come from tokenizer.json.
SPECIAL_TOKENS = {
    "boi_token_id": "<|image>",
    "image_token_id": "<|image|>",
    "eoi_token_id": "<image|>",
    "boa_token_id": "<|audio>",
    "audio_token_id": "<|audio|>",
    "eoa_token_id": "<audio|>",
    "eoa_token_index": "<audio|>",
    "video_token_id": "<|video|>",
}
STOP_TOKENS = ["<eos>", "<turn|>", "<|tool_response>"]

SOFT_TOKENS = 70  # the smallest budget of the family: at most 630 patches of 16 x 16 pixels per image
POOLING = 3
PATCH = 16

TEXT = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attention_k_eq_v": True,
    "bos_token_id": 2,
    "dtype": "bfloat16",
    "enable_moe_block": True,
    "eos_token_id": 1,
    "final_logit_softcapping": 30.0,
    "global_head_dim": 128,
    "head_dim": 64,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 256,
    "hidden_size_per_layer_input": 0,
    "initializer_range": 0.02,
    "intermediate_size": 384,
    "layer_types": [SLIDING] * 5 + [FULL],
    "max_position_embeddings": 8192,
    "model_type": "gemma4_text",
    "moe_intermediate_size": 64,
    "num_attention_heads": 4,
    "num_experts": 16,
    "num_global_key_value_heads": 2,
    "num_hidden_layers": 6,
    "num_key_value_heads": 2,
    "num_kv_shared_layers": 0,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-06,
    "rope_parameters": {
        FULL: {"partial_rotary_factor": 0.25, "rope_theta": 1000000.0, "rope_type": "proportional"},
        SLIDING: {"rope_theta": 10000.0, "rope_type": "default"},
    },
    "sliding_window": 192,
    "tie_word_embeddings": True,
    "top_k_experts": 4,
    "use_bidirectional_attention": "vision",
    "use_cache": True,
    "use_double_wide_mlp": False,
}

VISION = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "default_output_length": SOFT_TOKENS,
    "dtype": "bfloat16",
    "global_head_dim": 64,
    "head_dim": 64,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 128,
    "initializer_range": 0.02,
    "intermediate_size": 256,
    "max_position_embeddings": 131072,
    "model_type": "gemma4_vision",
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "patch_size": PATCH,
    "pooling_kernel_size": POOLING,
    "position_embedding_size": 512,
    "rms_norm_eps": 1e-06,
    "rope_parameters": {"rope_theta": 100.0, "rope_type": "default"},
    "standardize": True,
    "use_clipped_linears": False,
}


def model_config(ids, vocab):
    """config.json; `ids` maps the keys of SPECIAL_TOKENS to token ids."""
    text = dict(TEXT, vocab_size=vocab, vocab_size_per_layer_input=vocab)
    return dict(
        ids,
        architectures=["Gemma4ForConditionalGeneration"],
        audio_config=None,
        dtype="bfloat16",
        eos_token_id=[1, 106],
        initializer_range=0.02,
        model_type="gemma4",
        text_config=dict(sorted(text.items())),
        tie_word_embeddings=True,
        vision_config=dict(VISION),
        vision_soft_tokens_per_image=SOFT_TOKENS,
    )


def generation_config(stop_ids, suppress_ids):
    return {
        "bos_token_id": 2,
        "do_sample": True,
        "eos_token_id": stop_ids,
        "pad_token_id": 0,
        "suppress_tokens": suppress_ids,
        "temperature": 1.0,
        "top_k": 64,
        "top_p": 0.95,
    }


def processor_config():
    """processor_config.json: the published sections, with this model's smaller image budget."""
    image = {
        "do_convert_rgb": True,
        "do_normalize": False,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.0, 0.0, 0.0],
        "image_processor_type": "Gemma4ImageProcessor",
        "image_seq_length": SOFT_TOKENS,
        "image_std": [1.0, 1.0, 1.0],
        "max_soft_tokens": SOFT_TOKENS,
        "patch_size": PATCH,
        "pooling_kernel_size": POOLING,
        "resample": 3,
        "rescale_factor": 1 / 255,
    }
    video = dict(
        {k: v for k, v in image.items() if k not in ("image_processor_type", "image_seq_length")},
        do_normalize=True,
        do_sample_frames=True,
        max_soft_tokens=SOFT_TOKENS,
        num_frames=32,
        return_metadata=False,
        video_processor_type="Gemma4VideoProcessor",
    )
    audio = {  # of no use here, but transformers' processor class insists on it
        "dither": 0.0,
        "feature_extractor_type": "Gemma4AudioFeatureExtractor",
        "feature_size": 128,
        "fft_length": 512,
        "fft_overdrive": False,
        "frame_length": 320,
        "hop_length": 160,
        "input_scale_factor": 1.0,
        "max_frequency": 8000.0,
        "min_frequency": 0.0,
        "padding_side": "right",
        "padding_value": 0.0,
        "per_bin_mean": None,
        "per_bin_stddev": None,
        "preemphasis": 0.0,
        "preemphasis_htk_flavor": True,
        "return_attention_mask": True,
        "sampling_rate": 16000,
    }
    return {
        "audio_ms_per_token": 40,
        "audio_seq_length": 750,
        "feature_extractor": audio,
        "image_processor": image,
        "image_seq_length": SOFT_TOKENS,
        "processor_class": "Gemma4Processor",
        "video_processor": video,
    }

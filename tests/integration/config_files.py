"""Config files of models that exist only for a test."""
import json
import os

SMALL = {
    "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_act": "silu",
    "vocab_size": 512, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "num_local_experts": 8,
    "num_experts_per_tok": 2, "max_position_embeddings": 512, "rope_theta": 10000.0,
    "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "sliding_window": None, "bos_token_id": 1,
    "eos_token_id": 2, "torch_dtype": "bfloat16", "attention_bias": False,
}


def write_config(directory, **changes):
    """Writes config.json into `directory` and returns its path."""
    path = os.path.join(directory, "config.json")
    with open(path, "w") as file:
        json.dump({**SMALL, **changes}, file)
    return path

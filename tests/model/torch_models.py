"""Small random models of transformers, float or with BitLinear layers, and their neutral form.

The neutral form is read off the loaded modules, so that no reader of ours is in the comparison.
"""

import json

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from tamale_model.model import LINEARS, FloatLinear, Graph, Layer, Linear, Model
from transformers.integrations import bitnet

__all__ = ["MODULES", "load", "neutral", "quantise", "random_float"]

#: Paths of a layer's matrices.
MODULES = {
    "self_attn.q_proj": "q",
    "self_attn.k_proj": "k",
    "self_attn.v_proj": "v",
    "self_attn.o_proj": "o",
    "mlp.gate_proj": "gate",
    "mlp.up_proj": "up",
    "mlp.down_proj": "down",
}

_SIZES = {
    "vocab_size": 90,
    "hidden_size": 64,
    "intermediate_size": 116,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "attn_implementation": "eager",
}


def random_float(kind, seed, **changes):
    """Return a float model of transformers.

    Parameters
    ----------
    kind : str
        Prefix of transformers' classes: BitNet, Llama, Qwen2, Qwen3.
    seed : int
    changes
        Entries of the configuration that differ from the sizes above.
    """
    config = getattr(transformers, f"{kind}Config")(**_SIZES | changes)
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.named_parameters():
        with torch.no_grad():
            if "norm" in name:
                value.uniform_(0.6, 1.6, generator=generator)
                if name == "model.norm.weight" and config.tie_word_embeddings:
                    # Random signs keep a tied head from repeating the last token for ever.
                    signs = torch.randint(0, 2, value.shape, generator=generator) * 2 - 1
                    value.mul_(0.3 * signs)
            elif name.endswith("bias"):
                value.uniform_(-0.9, 0.9, generator=generator)
            elif "embed_tokens" in name or "lm_head" in name:
                value.normal_(0, 1 if "embed" in name else 0.3, generator=generator)
            else:
                value.normal_(0, 1.2 / value.shape[1] ** 0.5, generator=generator)
    return model


def quantise(model, folder, linear_class, *, norms=False, seed=1):
    """Write ``model`` with packed ternary matrices, as BitNet checkpoints are, and return it.

    Parameters
    ----------
    model : transformers model
    folder : Path
        Made here.
    linear_class : str
        autobitlinear or bitlinear, which says what ``weight_scale`` means.
    norms : bool
        Whether every matrix gets an RMSNorm of its own (``use_rms_norm``).
    """
    folder.mkdir()
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    for i in range(model.config.num_hidden_layers):
        for module in MODULES:
            name = f"model.layers.{i}.{module}"
            weight = tensors[f"{name}.weight"]
            mean = weight.abs().mean()
            trits = (weight / mean).round().clamp(-1, 1)
            tensors[f"{name}.weight"] = bitnet.pack_weights(trits)
            scale = mean if linear_class == "autobitlinear" else 1 / mean
            tensors[f"{name}.weight_scale"] = scale.reshape(1)
            if norms:
                gain = torch.empty(weight.shape[1]).uniform_(0.6, 1.6, generator=generator)
                tensors[f"{name}.rms_norm.weight"] = gain
    config = model.config.to_dict()
    config["quantization_config"] = {
        "quant_method": "bitnet",
        "linear_class": linear_class,
        "quantization_mode": "offline",
        "use_rms_norm": norms,
        "rms_norm_eps": 1e-6,
    }
    (folder / "config.json").write_text(json.dumps(config, default=str))
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def load(folder):
    """Return transformers' model of a folder, in float32."""
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def _array(value):
    return None if value is None else value.detach().numpy().astype(np.float32)


def _linear(module):
    norm = getattr(module, "rms_norm", None)
    extra = {
        "bias": _array(module.bias),
        "norm": None if norm is None else _array(norm.weight),
    }
    if isinstance(module, bitnet.BitLinear):
        values = bitnet.unpack_weights(module.weight, dtype=torch.float32)
        return Linear(_array(values).astype(np.int8), 1, float(1 / module.weight_scale), **extra)
    if isinstance(module, bitnet.AutoBitLinear):
        values = _array(module.weight)
        assert np.isin(values, (-1, 0, 1)).all()
        return Linear(values.astype(np.int8), 1, float(module.weight_scale), **extra)
    return FloatLinear(_array(module.weight), **extra)


def neutral(torch_model):
    """Return the `Model` of a model of transformers."""
    config = torch_model.config
    layers = []
    for layer in torch_model.model.layers:
        attention, feed_forward = layer.self_attn, layer.mlp
        norms = {
            "input_norm": layer.input_layernorm,
            "attention_norm": getattr(attention, "attn_sub_norm", None),
            "post_norm": layer.post_attention_layernorm,
            "feed_forward_norm": getattr(feed_forward, "ffn_sub_norm", None),
            "query_norm": getattr(attention, "q_norm", None),
            "key_norm": getattr(attention, "k_norm", None),
        }
        linears = {name: _linear(layer.get_submodule(path)) for path, name in MODULES.items()}
        assert set(linears) == set(LINEARS)
        gains = {name: norm and _array(norm.weight) for name, norm in norms.items()}
        layers.append(Layer(**linears, **gains))
    embedding = _array(torch_model.model.embed_tokens.weight)
    rope = config.rope_parameters
    graph = Graph(
        name=config.model_type,
        hidden=config.hidden_size,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_size=getattr(config, "head_dim", None)
        or config.hidden_size // config.num_attention_heads,
        feed_forward=config.intermediate_size,
        vocabulary=config.vocab_size,
        context=config.max_position_embeddings,
        rope_theta=rope["rope_theta"],
        norm_epsilon=config.rms_norm_eps,
        activation=config.hidden_act,
        tied=config.tie_word_embeddings,
        bos=0,
    )
    if rope.get("rope_type", "default") != "default":
        graph.rope_frequencies = tuple(torch_model.model.rotary_emb.inv_freq.tolist())
    head = embedding if graph.tied else _array(torch_model.lm_head.weight)
    return Model(graph, embedding, head, layers, _array(torch_model.model.norm.weight))

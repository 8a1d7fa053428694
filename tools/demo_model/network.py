"""The Gemma 4 forward pass of the demo model, written for training speed on few CPU cores.

Same mathematics and the same parameter names as `Gemma4ForConditionalGeneration` (export.py compares the
two), but several samples share a row ("packing"), images are padded to one size, and the experts run as
matrix products over tokens sorted by expert. Weights are float32, activations bf16, norms and softmax
float32. Parameters are a plain dict: name -> tensor.
"""
import math

import torch
import torch.nn.functional as F

from config import FULL, POOLING, SLIDING

LM = "model.language_model."
TOWER = "model.vision_tower."
PROJECTOR = "model.embed_vision.embedding_projection.weight"


# --- parameters ---------------------------------------------------------------------------------------------

def parameter_shapes(config):
    """Name -> shape of every stored tensor, in the order of the forward pass."""
    text, vision = config["text_config"], config["vision_config"]
    hidden, heads = text["hidden_size"], text["num_attention_heads"]
    out = {LM + "embed_tokens.weight": (text["vocab_size"], hidden)}
    for i, kind in enumerate(text["layer_types"]):
        at, full = f"{LM}layers.{i}.", kind == FULL
        size = text["global_head_dim"] if full else text["head_dim"]
        kv = size * (text["num_global_key_value_heads"] if full else text["num_key_value_heads"])
        out |= {at + "input_layernorm.weight": (hidden,),
                at + "self_attn.q_proj.weight": (heads * size, hidden),
                at + "self_attn.k_proj.weight": (kv, hidden)}
        if not full:
            out[at + "self_attn.v_proj.weight"] = (kv, hidden)
        out |= {at + "self_attn.q_norm.weight": (size,), at + "self_attn.k_norm.weight": (size,),
                at + "self_attn.o_proj.weight": (hidden, heads * size)}
        out |= {at + name + ".weight": (hidden,) for name in (
            "post_attention_layernorm", "pre_feedforward_layernorm", "pre_feedforward_layernorm_2",
            "post_feedforward_layernorm_1", "post_feedforward_layernorm_2", "post_feedforward_layernorm")}
        ffn, width, experts = text["intermediate_size"], text["moe_intermediate_size"], text["num_experts"]
        out |= {at + "mlp.gate_proj.weight": (ffn, hidden), at + "mlp.up_proj.weight": (ffn, hidden),
                at + "mlp.down_proj.weight": (hidden, ffn),
                at + "router.proj.weight": (experts, hidden), at + "router.scale": (hidden,),
                at + "router.per_expert_scale": (experts,),
                at + "experts.gate_up_proj": (experts, 2 * width, hidden),
                at + "experts.down_proj": (experts, hidden, width), at + "layer_scalar": (1,)}
    out[LM + "norm.weight"] = (hidden,)
    wide, ffn = vision["hidden_size"], vision["intermediate_size"]
    size = vision["num_attention_heads"] * vision["head_dim"]
    out |= {TOWER + "patch_embedder.input_proj.weight": (wide, 3 * vision["patch_size"] ** 2),
            TOWER + "patch_embedder.position_embedding_table": (2, vision["position_embedding_size"], wide)}
    for i in range(vision["num_hidden_layers"]):
        at = f"{TOWER}encoder.layers.{i}."
        out |= {at + name + ".weight": (wide,) for name in (
            "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")}
        out |= {at + f"self_attn.{name}_norm.weight": (vision["head_dim"],) for name in "qk"}
        out |= {at + f"self_attn.{name}_proj.linear.weight": (size, wide) for name in "qkv"}
        out |= {at + "self_attn.o_proj.linear.weight": (wide, size),
                at + "mlp.gate_proj.linear.weight": (ffn, wide), at + "mlp.up_proj.linear.weight": (ffn, wide),
                at + "mlp.down_proj.linear.weight": (wide, ffn)}
    return out | {TOWER + "std_bias": (wide,), TOWER + "std_scale": (wide,), PROJECTOR: (hidden, wide)}


def initial_value(name, shape, generator, config):
    """Starting value of one parameter.

    Attention has no 1/sqrt(head_dim), so the q and k norms start where scores have a standard deviation
    near 1.7; branch norms start below 1 so that the residual stream stays near unit size.
    """
    last = name.removesuffix(".weight").split(".")[-1]
    if last == "embed_tokens":
        return torch.randn(shape, generator=generator) / math.sqrt(shape[1])
    if last in ("q_norm", "k_norm"):
        return torch.full(shape, 1.3 * shape[0] ** -0.25)
    if last in ("post_attention_layernorm", "post_feedforward_layernorm"):
        return torch.full(shape, 0.5)
    if last in ("post_feedforward_layernorm_1", "post_feedforward_layernorm_2"):
        return torch.full(shape, 0.7)
    if last == "position_embedding_table":
        # Waves of 6 to 96 patches, as large as the patches themselves: small noise stays unused for thousands of steps.
        _, places, size = shape
        rates = 2 * math.pi / 6 * 16.0 ** -torch.linspace(0, 1, size)
        phases = 2 * math.pi * torch.rand((2, 1, size), generator=generator)
        return 0.5 * torch.sin(torch.arange(places)[None, :, None] * rates + phases)
    if last == "std_bias":
        return torch.zeros(shape)
    if last == "std_scale":
        return torch.full(shape, shape[0] ** -0.5)
    if name.endswith("router.proj.weight"):
        return 0.5 * torch.randn(shape, generator=generator)
    if len(shape) >= 2:
        return torch.randn(shape, generator=generator) / math.sqrt(shape[-1])
    return torch.ones(shape)


# --- experts --------------------------------------------------------------------------------------------------

@torch.library.custom_op("demo::grouped_linear", mutates_args=())
def grouped_linear(x: torch.Tensor, weight: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """y[i] = weight[e] x[i] where rows of expert e end at ends[e]. x [rows, in], weight [experts, out, in]."""
    y, start = x.new_empty(x.shape[0], weight.shape[1]), 0
    for e, end in enumerate(ends.tolist()):
        if end > start:
            torch.mm(x[start:end], weight[e].t(), out=y[start:end])
        start = end
    return y


@grouped_linear.register_fake
def _(x, weight, ends):
    return x.new_empty(x.shape[0], weight.shape[1])


@torch.library.custom_op("demo::grouped_linear_backward", mutates_args=())
def grouped_linear_backward(dy: torch.Tensor, x: torch.Tensor, weight: torch.Tensor,
                            ends: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    dx, dweight, start = torch.empty_like(x), torch.zeros_like(weight), 0
    for e, end in enumerate(ends.tolist()):
        if end > start:
            torch.mm(dy[start:end], weight[e], out=dx[start:end])
            torch.mm(dy[start:end].t(), x[start:end], out=dweight[e])
        start = end
    return dx, dweight


@grouped_linear_backward.register_fake
def _(dy, x, weight, ends):
    return torch.empty_like(x), torch.empty_like(weight)


def _save(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _backward(ctx, dy):
    x, weight, ends = ctx.saved_tensors
    dx, dweight = grouped_linear_backward(dy.contiguous(), x, weight, ends)
    return dx, dweight, None


grouped_linear.register_autograd(_backward, setup_context=_save)


@torch.library.custom_op("demo::take_rows", mutates_args=())
def take_rows(x: torch.Tensor, order: torch.Tensor, inverse: torch.Tensor, top: int) -> torch.Tensor:
    """x[order // top]; `inverse` is the inverse permutation, which turns the backward pass into a gather."""
    return x.index_select(0, order // top)


@take_rows.register_fake
def _(x, order, inverse, top):
    return x.new_empty(order.shape[0], x.shape[1])


def _take_save(ctx, inputs, output):
    ctx.save_for_backward(inputs[2])
    ctx.top = inputs[3]


def _take_backward(ctx, dy):
    (inverse,) = ctx.saved_tensors
    return dy[inverse].view(-1, ctx.top, dy.shape[1]).sum(1), None, None, None


take_rows.register_autograd(_take_backward, setup_context=_take_save)


@torch.library.custom_op("demo::put_rows", mutates_args=())
def put_rows(x: torch.Tensor, order: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
    """x[inverse]: rows sorted by expert back into token order."""
    return x.index_select(0, inverse)


@put_rows.register_fake
def _(x, order, inverse):
    return torch.empty_like(x)


def _put_save(ctx, inputs, output):
    ctx.save_for_backward(inputs[1])


def _put_backward(ctx, dy):
    (order,) = ctx.saved_tensors
    return dy[order], None, None


put_rows.register_autograd(_put_backward, setup_context=_put_save)


@torch.library.custom_op("demo::route", mutates_args=())
def route(chosen: torch.Tensor, experts: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sort the (token, expert) pairs by expert: order, its inverse, and where each expert's rows end."""
    flat = chosen.reshape(-1)
    order = flat.to(torch.uint8).argsort(stable=True)
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(order.numel())
    return order, inverse, torch.bincount(flat, minlength=experts).cumsum(0)


@route.register_fake
def _(chosen, experts):
    n = chosen.numel()
    return tuple(torch.empty(k, dtype=torch.int64) for k in (n, n, experts))


# --- forward pass ---------------------------------------------------------------------------------------------

def rms_norm(x, weight=None):
    y = x.float()
    y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-6)
    return (y if weight is None else y * weight).to(x.dtype)


def linear(x, weight):
    return F.linear(x, weight.to(x.dtype))


def gated(gate, up):
    return F.gelu(gate, approximate="tanh") * up


def rotate(x, cos, sin):
    """Half-split rotation; x [..., heads, size], cos and sin [..., 1, size / 2] float32."""
    a, b = x.float().chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)


def text_angles(text, kind, positions):
    """(cos, sin) [rows, length, 1, size / 2] of the rotary embedding for one kind of layer."""
    rope, full = text["rope_parameters"][kind], kind == FULL
    size = text["global_head_dim"] if full else text["head_dim"]
    rates = rope["rope_theta"] ** -(torch.arange(0, size, 2).float() / size)
    if full:
        rates[int(rope["partial_rotary_factor"] * size // 2):] = 0.0
    angles = (positions.float()[..., None] * rates)[:, :, None]
    return angles.cos(), angles.sin()


def attend(q, k, v, mask):
    """q [rows, length, heads, size], k and v [rows, length, kv_heads, size], mask [rows, 1, length, length].

    Written out because the compiled form is faster here than the fused CPU kernel (1.3x at 256 tokens).
    """
    rows, length, heads, size = q.shape
    group = heads // k.shape[2]
    k, v = k.repeat_interleave(group, 2), v.repeat_interleave(group, 2)
    q, k, v = (t.transpose(1, 2).reshape(rows * heads, length, size) for t in (q, k, v))
    scores = torch.bmm(q, k.transpose(1, 2)).view(rows, heads, length, length)
    chances = (scores.float() + mask.float()).softmax(-1).to(v.dtype)
    out = torch.bmm(chances.view(rows * heads, length, length), v)
    return out.view(rows, heads, length, size).transpose(1, 2).flatten(2)


def text_attention(w, text, x, angles, mask, full):
    rows, length, _ = x.shape
    size = text["global_head_dim"] if full else text["head_dim"]
    q = linear(x, w["self_attn.q_proj.weight"]).view(rows, length, -1, size)
    k = linear(x, w["self_attn.k_proj.weight"]).view(rows, length, -1, size)
    v = k if full else linear(x, w["self_attn.v_proj.weight"]).view(rows, length, -1, size)
    q = rotate(rms_norm(q, w["self_attn.q_norm.weight"]), *angles)
    k = rotate(rms_norm(k, w["self_attn.k_norm.weight"]), *angles)
    return linear(attend(q, k, rms_norm(v), mask), w["self_attn.o_proj.weight"])


def experts(w, text, residual, balance_rows):
    """The routed branch: (output [tokens, hidden], load-balance loss over the rows marked 1)."""
    count, top = text["num_experts"], text["top_k_experts"]
    routed = rms_norm(residual) * (w["router.scale"] * text["hidden_size"] ** -0.5).to(residual.dtype)
    chances = linear(routed, w["router.proj.weight"]).float().softmax(-1)
    weights, chosen = chances.topk(top, -1)
    weights = weights / weights.sum(-1, keepdim=True)
    weights = weights * w["router.per_expert_scale"][chosen]
    order, inverse, ends = route(chosen, count)
    x = take_rows(rms_norm(residual, w["pre_feedforward_layernorm_2.weight"]), order, inverse, top)
    gate, up = grouped_linear(x, w["experts.gate_up_proj"].to(x.dtype), ends).chunk(2, -1)
    y = grouped_linear(gated(gate, up), w["experts.down_proj"].to(x.dtype), ends)
    y = put_rows(y, order, inverse).view(-1, top, y.shape[1])
    out = (y.float() * weights[..., None]).sum(1).to(residual.dtype)
    load = torch.diff(ends, prepend=ends.new_zeros(1)).float() / ends[-1]
    balance = count * (load * chances.mean(0)).sum()
    return out, balance


def text_layer(w, text, x, angles, mask, full):
    a = text_attention(w, text, rms_norm(x, w["input_layernorm.weight"]), angles, mask, full)
    x = x + rms_norm(a, w["post_attention_layernorm.weight"])
    m = rms_norm(x, w["pre_feedforward_layernorm.weight"])
    m = gated(linear(m, w["mlp.gate_proj.weight"]), linear(m, w["mlp.up_proj.weight"]))
    m = rms_norm(linear(m, w["mlp.down_proj.weight"]), w["post_feedforward_layernorm_1.weight"])
    e, balance = experts(w, text, x.flatten(0, 1), None)
    m = m + rms_norm(e, w["post_feedforward_layernorm_2.weight"]).view(x.shape)
    x = x + rms_norm(m, w["post_feedforward_layernorm.weight"])
    return x * w["layer_scalar"].to(x.dtype), balance


def select(params, prefix):
    return {name[len(prefix):]: value for name, value in params.items() if name.startswith(prefix)}


def tower(params, vision, pixels, positions, dtype=torch.bfloat16):
    """Soft tokens [images, cells, hidden] of padded images.

    pixels [images, patches, 768] uint8 and positions [images, patches, 2], ordered so that the nine patches
    of a pooling cell are neighbours; padding patches have position (-1, -1) and come last.
    """
    w = select(params, TOWER)
    images, patches, _ = pixels.shape
    heads, size = vision["num_attention_heads"], vision["head_dim"]
    real = positions[..., 0] >= 0
    at = positions.clamp(min=0)
    x = linear((pixels.float() * (2 / 255) - 1).to(dtype), w["patch_embedder.input_proj.weight"])
    table = w["patch_embedder.position_embedding_table"]
    x = x + ((table[0][at[..., 0]] + table[1][at[..., 1]]) * real[..., None]).to(dtype)
    rates = vision["rope_parameters"]["rope_theta"] ** -(torch.arange(0, size // 2, 2).float() / (size // 2))
    angles = at.float()[..., None] * rates                                   # [images, patches, 2, size / 4]
    cos, sin = angles.cos()[:, :, None], angles.sin()[:, :, None]
    mask = torch.zeros(images, 1, 1, patches).masked_fill(~real[:, None, None], -1e9).to(dtype)
    mask = mask.expand(images, 1, patches, patches)

    def rotate_both(t):
        half = size // 2
        return torch.cat((rotate(t[..., :half], cos[..., 0, :], sin[..., 0, :]),
                          rotate(t[..., half:], cos[..., 1, :], sin[..., 1, :])), -1)
    for i in range(vision["num_hidden_layers"]):
        l = select(w, f"encoder.layers.{i}.")
        a = rms_norm(x, l["input_layernorm.weight"])
        q, k, v = (linear(a, l[f"self_attn.{n}_proj.linear.weight"]).view(images, patches, heads, size) for n in "qkv")
        q = rotate_both(rms_norm(q, l["self_attn.q_norm.weight"]))
        k = rotate_both(rms_norm(k, l["self_attn.k_norm.weight"]))
        a = linear(attend(q, k, rms_norm(v), mask), l["self_attn.o_proj.linear.weight"])
        x = x + rms_norm(a, l["post_attention_layernorm.weight"])
        m = rms_norm(x, l["pre_feedforward_layernorm.weight"])
        m = gated(linear(m, l["mlp.gate_proj.linear.weight"]), linear(m, l["mlp.up_proj.linear.weight"]))
        x = x + rms_norm(linear(m, l["mlp.down_proj.linear.weight"]), l["post_feedforward_layernorm.weight"])
    pooled = x.view(images, patches // POOLING**2, POOLING**2, -1).float().mean(2)
    z = (pooled * vision["hidden_size"] ** 0.5 - w["std_bias"]) * w["std_scale"]
    return linear(rms_norm(z.to(dtype)), params[PROJECTOR])


def masks(text, positions, documents, branches, blocks, dtype=torch.bfloat16):
    """Additive masks {kind: [rows, 1, length, length]} from four numbers of each token, [rows, length].

    documents: the sample it belongs to; branches: which of several continuations of the sample's beginning (0) it
    belongs to; blocks: the image a soft token belongs to, -1 for text. A token sees its own branch and the beginning.
    Full layers are causal; sliding layers see `window` tokens back and, inside one image, forward too.
    """
    def equal(numbers):
        return numbers[:, :, None] == numbers[:, None, :]
    back = positions[:, :, None] - positions[:, None, :]
    same = equal(documents) & (equal(branches) | (branches == 0)[:, None, :])
    image = equal(blocks) & (blocks >= 0)[:, :, None]
    allowed = {FULL: same & (back >= 0), SLIDING: same & (back < text["sliding_window"]) & ((back >= 0) | image)}
    return {kind: torch.zeros(a.shape, dtype=dtype).masked_fill_(~a, -1e9)[:, None] for kind, a in allowed.items()}


def hidden_states(params, config, batch, dtype=torch.bfloat16, soft=None):
    """Final normed states [rows, length, hidden] and the mean load-balance loss.

    batch: tokens, positions [rows, length] and the masks of both kinds; soft_at [images, cells] flat target position of
    each soft token (rows * length for padding). `soft` are the tower's soft tokens, or None without images.
    """
    text = config["text_config"]
    tokens = batch["tokens"]
    scale = torch.tensor(text["hidden_size"] ** 0.5, dtype=torch.bfloat16).to(dtype)
    x = F.embedding(tokens, params[LM + "embed_tokens.weight"]).to(dtype) * scale
    if soft is not None:
        flat = torch.cat((x.flatten(0, 1), x.new_zeros(1, x.shape[2])))
        x = flat.index_put((batch["soft_at"].flatten(),), soft.flatten(0, 1)).narrow(0, 0, tokens.numel()).view(x.shape)
    mask = {SLIDING: batch["mask_sliding"], FULL: batch["mask_full"]}
    angles = {kind: text_angles(text, kind, batch["positions"]) for kind in (SLIDING, FULL)}
    balance = 0.0
    for i, kind in enumerate(text["layer_types"]):
        x, b = text_layer(select(params, f"{LM}layers.{i}."), text, x, angles[kind], mask[kind], kind == FULL)
        balance = balance + b / len(text["layer_types"])
    return rms_norm(x, params[LM + "norm.weight"]), balance


def logits(params, config, states):
    z = linear(states, params[LM + "embed_tokens.weight"]).float()
    cap = config["text_config"]["final_logit_softcapping"]
    return torch.tanh(z / cap) * cap

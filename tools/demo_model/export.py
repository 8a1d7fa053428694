"""Write models/demo/ from a checkpoint of train.py, and check it against transformers.

    python export.py --out ../../build/demo_model [--weights average|last] [--model ../../models/demo]

The check loads the folder with `Gemma4ForConditionalGeneration.from_pretrained`, wants no missing or unexpected
tensor, and compares logits on a text and an image prompt with the training network.
"""
import argparse
import glob
import json
import pathlib

import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from tokenizers import Tokenizer

import batches
import config
import network

MODEL = pathlib.Path(__file__).resolve().parents[2] / "models" / "demo"
PROMPTS = {
    "text": "<bos><|turn>user\nWhat is gem8?<turn|>\n<|turn>model\n",
    "image": "<bos><|turn>user\n<|image|>What colour is it?<turn|>\n<|turn>model\n",
}


def load_checkpoint(folder, which):
    """(parameters, step); `which` is "average" (of the last steps' weights) or "last"."""
    params, steps = {}, set()
    for path in sorted(glob.glob(str(folder / "checkpoint.*.pt"))):
        state = torch.load(path, weights_only=True)
        steps.add(state["step"])
        params |= state["optimizer"]["average"] if which == "average" else state["params"]
    if len(steps) != 1:
        raise SystemExit(f"the checkpoints in {folder} are of steps {sorted(steps)}")
    return params, steps.pop()


def special_ids(tokenizer):
    ids = {key: tokenizer.token_to_id(text) for key, text in config.SPECIAL_TOKENS.items()}
    missing = [config.SPECIAL_TOKENS[key] for key, value in ids.items() if value is None]
    if missing:
        raise SystemExit(f"the tokenizer has no {missing}")
    return ids


def model_config(tokenizer):
    return config.model_config(special_ids(tokenizer), tokenizer.get_vocab_size())


def write(folder, params, tokenizer):
    cfg = model_config(tokenizer)
    ids = special_ids(tokenizer)
    shapes = network.parameter_shapes(cfg)
    if set(shapes) != set(params):
        raise SystemExit(f"the checkpoint and the configuration name different tensors: {set(shapes) ^ set(params)}")
    tensors = {name: params[name].to(torch.bfloat16).contiguous() for name in sorted(shapes)}
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != shapes[name] or not tensor.isfinite().all():
            raise SystemExit(f"tensor {name}: shape {tuple(tensor.shape)}, wanted {shapes[name]}, all finite")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    stops = [tokenizer.token_to_id(t) for t in config.STOP_TOKENS]
    files = {
        "config.json": cfg,
        "generation_config.json": config.generation_config(stops, [ids["eoa_token_index"], ids["eoi_token_id"]]),
        "processor_config.json": config.processor_config(),
    }
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    return cfg, tensors


def expanded(tokenizer, text, cells):
    """Token ids of a prompt; each image placeholder becomes its markers and soft tokens."""
    ids, out, cells = special_ids(tokenizer), [], list(cells)
    for token in tokenizer.encode(text, add_special_tokens=False).ids:
        if token == ids["image_token_id"]:
            out += [ids["boi_token_id"]] + [token] * cells.pop(0) + [ids["eoi_token_id"]]
        else:
            out.append(token)
    return out


def picture():
    image = Image.new("RGB", (200, 120), (235, 235, 235))
    ImageDraw.Draw(image).ellipse((120, 40, 160, 80), fill=(220, 30, 30))
    return image


def our_logits(params, cfg, tokens, images, dtype):
    """Logits [length, vocab] of one prompt by the training network."""
    ids, n = torch.tensor([tokens]), len(tokens)
    where = (ids[0] == cfg["image_token_id"]).nonzero()[:, 0]
    blocks, soft_at, soft = torch.full((1, n), -1), None, None
    if images:
        patched = [batches.patches_of(i) for i in images]
        pixels = torch.zeros(len(images), batches.PATCHES, 768, dtype=torch.uint8)
        places = torch.full((len(images), batches.PATCHES, 2), -1)
        soft_at = torch.full((len(images), config.SOFT_TOKENS), n)
        for k, (p, at) in enumerate(patched):
            pixels[k, :len(p)], places[k, :len(p)] = p, at
            mine, where = where[:len(p) // 9], where[len(p) // 9:]
            soft_at[k, :len(mine)] = mine
            blocks[0, mine] = k
        soft = network.tower(params, cfg["vision_config"], pixels, places, dtype)
    positions, none = torch.arange(n)[None], torch.zeros(1, n, dtype=torch.int64)
    masks = network.masks(cfg["text_config"], positions, none, none, blocks, dtype)
    batch = {"tokens": ids, "positions": positions, "soft_at": soft_at,
             "mask_sliding": masks[config.SLIDING], "mask_full": masks[config.FULL]}
    states, _ = network.hidden_states(params, cfg, batch, dtype, soft)
    return network.logits(params, cfg, states[0])


def compare(folder, cfg, tensors, tokenizer, prompts=PROMPTS):
    """Load the folder with transformers and compare logits; raises SystemExit where they differ."""
    import transformers
    from transformers import Gemma4ForConditionalGeneration
    transformers.logging.set_verbosity_error()
    for dtype, bound in ((torch.float32, 2e-3), (torch.bfloat16, 0.3)):
        model, report = Gemma4ForConditionalGeneration.from_pretrained(
            folder, dtype=dtype, attn_implementation="eager", experts_implementation="eager", output_loading_info=True)
        bad = {k: sorted(v) for k, v in report.items() if v}
        if bad:
            raise SystemExit(f"transformers does not load {folder} cleanly: {bad}")
        model.eval()
        params = {name: tensor.to(dtype) for name, tensor in tensors.items()}
        for name, prompt in prompts.items():
            images = [picture()] if "<|image|>" in prompt else []
            patched = [batches.patches_of(i) for i in images]
            tokens = expanded(tokenizer, prompt, [len(p) // 9 for p, _ in patched])
            extra = {}
            if images:
                from transformers.models.gemma4.image_processing_gemma4 import Gemma4ImageProcessor
                out = Gemma4ImageProcessor(max_soft_tokens=config.SOFT_TOKENS)(images=images, return_tensors="pt")
                extra = {"pixel_values": out["pixel_values"].to(dtype), "image_position_ids": out["image_position_ids"]}
            ids = torch.tensor([tokens])
            with torch.no_grad():
                theirs = model(input_ids=ids, mm_token_type_ids=(ids == cfg["image_token_id"]).long(),
                               use_cache=False, **extra).logits[0].float()
                ours = our_logits(params, cfg, tokens, images, dtype)
            rms = float((theirs - ours).square().mean().sqrt())
            worst = float((theirs - ours).abs().max())
            same = float((theirs.argmax(-1) == ours.argmax(-1)).float().mean())
            print(f"{name:5} {dtype}: {len(tokens)} tokens, logits rms difference {rms:.2e}, largest {worst:.2e}, "
                  f"same best token {same:.3f}")
            if rms > bound:
                raise SystemExit(f"logits differ by {rms:.3g} (rms), more than {bound}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the folder given to train.py")
    parser.add_argument("--model", type=pathlib.Path, default=MODEL, help="folder to write; holds tokenizer.json")
    parser.add_argument("--weights", choices=("average", "last"), default="last")
    args = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    params, step = load_checkpoint(args.out, args.weights)
    cfg, tensors = write(args.model, params, tokenizer)
    compare(args.model, cfg, tensors, tokenizer)
    count = sum(t.numel() for t in tensors.values())
    print(f"{args.model}: step {step}, {count} parameters in {len(tensors)} tensors")


if __name__ == "__main__":
    main()

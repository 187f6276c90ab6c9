#!/usr/bin/env python3
"""Layers of the sizes that people have, on a GPU and on the CPU reference: the same candidates for each token?

    check_shapes.py FOLDER [--models NAME[:FORMAT],...] [--worker build/worker-orcd] [--device cuda] [--seconds 540]

Tiny models do not show whether tiles, rings and heads of a real size fit, and whole models of all sizes take hours.
So each model has the real one's width and vocabulary, but few layers (make_model.py --layers), and is deleted after its
turn; the largest file has 6 GB, and FOLDER is best in memory. A prompt of about 150 tokens goes through prefill and
12 tokens through decode, at temperature 0, with the log-probabilities of the best 8 candidates of each. Where both
devices list a candidate, its log-probabilities may differ by 0.05 (0.7 with experts: where a router finds two nearly as
good, rounding chooses; the CPU reference differs from itself by up to 0.57 for Gemma 4 26B-A4B where its norms' weights
are moved by 5e-4). Where the best two are as close as that, the devices may go apart, and that is where the
comparison of that model ends; at least the first token is compared. Ends with status 1 where something differed.
"""
import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
from make_model import PRESETS  # noqa: E402

PROMPT = "The quick brown fox jumps over the lazy dog, and then it does so again, since nobody saw it. " * 2
N_TOKENS, N_CANDIDATES = 12, 8
BOUND, BOUND_EXPERTS = 0.05, 0.7
FORMATS = ("Q2_K", "Q3_K", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q5_K", "Q6_K", "Q8_0", "IQ4_NL", "IQ4_XS", "F16", "BF16", "MXFP4",
           "NVFP4", "TQ1_0", "TQ2_0", "Q1_0", "Q2_0", "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S")


# Families whose layers have stages that Llama's do not, in formats that are read by look-ups or have few bits.
FAMILIES = ("glm-4.7", "gemma4", "gemma-4", "qwen3.5", "nemotron", "lfm2", "mistral-small")
FAMILY_FORMATS = ("IQ2_XXS", "IQ3_S", "NVFP4", "MXFP4")
# Layers that have two of each kind that a family has, or one where the kinds are far apart. The longer name first.
LAYERS = {"gemma3n": 10, "gemma4-e": 12, "gemma3": 6, "gemma4": 6, "gemma-4": 6, "qwen3.5": 4, "lfm2": 4, "nemotron": 9, "granite": 6,
          "glm-4.7": 3, "deepseek": 3}


def default_models():
    names = [name for name in PRESETS if not name.endswith("-tiny")]
    mixed = [f"{name}:{kind}" for name in names if name.startswith(FAMILIES) for kind in FAMILY_FORMATS]
    return (names + [f"llama-3.1-8b:{name}" for name in FORMATS] + ["qwen2.5-32b:F16", "qwen2.5-72b:BF16", "mixtral-8x7b:F16"]
            + mixed)


def layers_of(name):
    return next((n for family, n in LAYERS.items() if name.startswith(family)), 2)


def make(args, model):
    name, _, quant = model.partition(":")
    path = os.path.join(args.folder, model.replace(":", "-") + ".gguf")
    more = ["--quant", quant] if quant else []
    subprocess.run([sys.executable, os.path.join(HERE, "..", "make_model.py"), name, path, "--layers", str(layers_of(name)), *more],
                   check=True, stdout=subprocess.DEVNULL)
    return path


def generate(args, path, device):
    begin = time.monotonic()
    done = subprocess.run([args.worker, "run", "--model", path, "--device", device, "--prompt", PROMPT, "--temperature", "0",
                           "--max-tokens", str(N_TOKENS), "--logits", str(N_CANDIDATES), "--json", "--jit-cache", "none",
                           "--kv-cache-size-mb", "200"],
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
    if done.returncode != 0:
        raise RuntimeError(f"{device}: status {done.returncode}: {done.stderr.decode(errors='replace').strip()}")
    return json.loads(done.stdout.decode(errors="replace")), time.monotonic() - begin


def compare(found, expected, bound):
    """How many steps were compared, the largest difference, and what is wrong, if anything is."""
    worst = 0.0
    for step, (a, b) in enumerate(zip(found["tokens"], expected["tokens"])):
        ours = {c["id"]: c["logprob"] for c in a["candidates"]}
        theirs = {c["id"]: c["logprob"] for c in b["candidates"]}
        both = ours.keys() & theirs.keys()
        if len(both) < N_CANDIDATES // 2:
            return step, worst, f"step {step}: only {len(both)} candidates in common"
        worst = max([worst] + [abs(ours[i] - theirs[i]) for i in both])
        if worst > bound:
            return step, worst, f"step {step}: log-probabilities differ by {worst:.3g}"
        if a["id"] != b["id"]:
            gap = theirs[b["id"]] - theirs.get(a["id"], -1e9)
            return step + 1, worst, "" if gap < bound else f"step {step}: token {a['id']} instead of {b['id']}"
    return min(len(found["tokens"]), len(expected["tokens"])), worst, "" if found["tokens"] else "no tokens"


def check(args, model, path):
    found, seconds = generate(args, path, args.device)
    expected, _ = generate(args, path, "cpu")
    has_experts = "experts" in PRESETS[model.partition(":")[0]][1]
    steps, worst, wrong = compare(found, expected, BOUND_EXPERTS if has_experts else BOUND)
    print(f"{'FAIL' if wrong else 'pass'}  {model}: {found['tokens_in']} tokens in, {steps} steps compared, "
          f"largest difference {worst:.2g}, {seconds:.1f} s {wrong}", flush=True)
    return not wrong


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("folder")
    p.add_argument("--models", default=",".join(default_models()), help="presets of make_model.py, also NAME:FORMAT")
    p.add_argument("--worker", default=os.path.join(HERE, "..", "..", "build", "worker-orcd"))
    p.add_argument("--device", default="cuda")
    p.add_argument("--seconds", type=float, default=540)
    args = p.parse_args()
    os.makedirs(args.folder, exist_ok=True)
    models, end, n = args.models.split(","), time.monotonic() + args.seconds, {True: 0, False: 0}
    with ThreadPoolExecutor(1) as maker:  # one file ahead
        files = [maker.submit(make, args, models[0])]
        for i, model in enumerate(models):
            path = files[i].result()
            if i + 1 < len(models):
                files.append(maker.submit(make, args, models[i + 1]))
            try:
                n[check(args, model, path)] += 1
            except (subprocess.SubprocessError, RuntimeError, ValueError, KeyError) as e:
                print(f"FAIL  {model}: {e}", flush=True)
                n[False] += 1
            os.remove(path)
            if time.monotonic() > end and i + 1 < len(models):
                os.remove(files[-1].result())
                print(f"not done, for want of time: {', '.join(models[i + 1:])}")
                break
    print(f"{n[True]} passed, {n[False]} failed")
    return 1 if n[False] or not n[True] else 0


if __name__ == "__main__":
    sys.exit(main())

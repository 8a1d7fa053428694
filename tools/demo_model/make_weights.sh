#!/usr/bin/env bash
# All stages that made models/demo/, one after the other. Start it again after an interruption: finished stages are skipped and
# train.py goes on from its last checkpoint (train_tower.py starts anew; 20 minutes).
# Usage: make_weights.sh [--rehearse] [OUT]
#   --rehearse: every stage with a 200th of the steps and few samples, in minutes, into OUT/model. It shows that the road is
#   whole; such weights know nothing.
set -euo pipefail
cd "$(dirname "$0")"
part=1 samples=5000 images=1500 count=100 model=../../models/demo fast=()
if [ "${1:-}" = --rehearse ]; then
    part=200 samples=60 images=10 count=2 model= fast=(--no-compile)
    shift
fi
out=${1:-../../build/demo_model}
mkdir -p "$out"
if [ -z "$model" ]; then
    model=$out/model
    mkdir -p "$model"
    cp ../../models/demo/{tokenizer.json,tokenizer_config.json,chat_template.jinja} "$model"
fi

# steps from which on the next of shards.STAGES is used
switches=
for step in 980 1800 3160 4680 9600 13400 17500; do switches+=${switches:+,}$((step / part)); done

# train_until STEPS DECAY FLAGS...: the last DECAY steps bring the learning rate to zero
train_until() {
    echo "{\"steps\": $(($1 / part)), \"decay_steps\": $(($2 / part > 0 ? $2 / part : 1))}" >"$out/plan.json"
    python train.py --out "$out" --switches "$switches" "${fast[@]}" "${@:3}"
}

python shards.py --data "$out/data" --size $samples
if [ ! -e "$out/joined" ]; then
    train_until 1686 380
    train_until 1800 1 # on at the full rate
    [ -e "$out/tower.pt" ] || python train_tower.py --out "$out" --steps $images "${fast[@]}"
    python train_tower.py --out "$out" --join
    touch "$out/joined"
fi
train_until 2276 256 --freeze-tower
train_until 4680 1 --freeze-tower
train_until 9600 2000 --freeze-tower
train_until 13400 1900 --freeze-tower
train_until 17500 3400 --freeze-tower
train_until 17920 400 --freeze-tower --muon-lr 0.01
python export.py --out "$out" --model "$model"
python evaluate.py --model "$model" --count $count

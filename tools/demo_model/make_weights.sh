#!/usr/bin/env bash
# All stages that made models/demo/, one after the other. Start it again after an interruption: finished stages are skipped and
# train.py goes on from its last checkpoint (train_tower.py starts anew; 20 minutes).
# Usage: make_weights.sh [OUT]
set -euo pipefail
cd "$(dirname "$0")"
out=${1:-../../build/demo_model}
mkdir -p "$out"

# train_until STEPS DECAY FLAGS...: the last DECAY steps bring the learning rate to zero
train_until() {
    echo "{\"steps\": $1, \"decay_steps\": $2}" >"$out/plan.json"
    python train.py --out "$out" "${@:3}"
}

python shards.py --data "$out/data"
if [ ! -e "$out/joined" ]; then
    train_until 1686 380
    train_until 1800 1 # on at the full rate
    [ -e "$out/tower.pt" ] || python train_tower.py --out "$out" --steps 1500
    python train_tower.py --out "$out" --join
    touch "$out/joined"
fi
train_until 2276 256 --freeze-tower
train_until 4680 1 --freeze-tower
train_until 9600 2000 --freeze-tower
train_until 13400 1900 --freeze-tower
python export.py --out "$out"
python evaluate.py --count 100

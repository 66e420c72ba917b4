#!/bin/sh
# Make the bundled models again: sh models/train.sh DATASET [WORK [MODEL]]
# DATASET is DSB2018 as a folder of images/, labels/ and manifest.csv with the splits of nuclei.split.csv; WORK (runs)
# gets the data and the runs; MODEL is nuclei, nuclei-nano or all (default). It may be stopped at any time: the same
# command goes on. cellseg-host must be on the PATH.
set -eu
[ $# -ge 1 ] || { sed -n 2,5p "$0" >&2; exit 2; }
dataset=$1 work=${2:-runs} wanted=${3:-all}
data=$work/nuclei-data

if [ ! -e "$data/with-empty-fields" ]; then
    rm -rf "$data"
    cellseg-host data import --format labels "$dataset" "$data" || [ $? -eq 1 ]  # 1: some images were left out
    # Fields without a nucleus, so that it learns to find nothing
    cellseg-host synth "$data" --kind empty -n 40 --seed 100 --size 260x348 --split train --force
    touch "$data/with-empty-fields"
fi

model() { # NAME, and what its network differs in
    name=$1 run=$work/$1
    shift
    [ "$wanted" = all ] || [ "$wanted" = "$name" ] || return 0
    if [ -e "$run/checkpoint" ]; then
        cellseg-host train "$data" --out "$run" --resume
    else
        cellseg-host train "$data" --out "$run" --arch edge-unet --epochs 30 --steps 250 --swa 8 \
            --augment scale=0.55,1.9 --augment invert=0.06 "$@"
    fi
    cellseg-host quantize "$run" --int8 --data "$data" --name "$name" --out "$(dirname "$0")/$name.tflite"
}

model nuclei
model nuclei-nano --option encoder=8,16,32,64 --option decoder=32,16,8

#!/bin/sh
# Make the bundled model again: sh models/train.sh DATASET [WORK]
# DATASET is DSB2018 as a folder of images/, labels/ and manifest.csv with the splits of nuclei.split.csv; WORK (runs)
# gets the data and the runs. It may be stopped at any time: the same command goes on. cellseg-host must be on the PATH.
set -eu
[ $# -ge 1 ] || { sed -n 2,4p "$0" >&2; exit 2; }
dataset=$1 work=${2:-runs}
data=$work/nuclei-data more=$work/nuclei-data-and-empty

train() {  # OUT DATA OPTIONS...
    out=$1 from=$2
    shift 2
    if [ -e "$out/checkpoint" ]; then
        cellseg-host train "$from" --out "$out" --resume
    else
        cellseg-host train "$from" --out "$out" "$@"
    fi
}

if [ ! -e "$data/manifest.csv" ]; then
    cellseg-host data import --format labels "$dataset" "$data" || [ $? -eq 1 ]  # 1: some images were left out
fi
train "$work/base" "$data" --epochs 110 --patience 40

# Fine-tuned with fields without a nucleus among the others, so that nothing is counted in them
if [ ! -e "$more/manifest.csv" ]; then
    rm -rf "$more.part" && cp -r "$data" "$more.part"
    for kind in fluorescence histology; do
        cellseg-host synth "$more.part" --kind $kind --empty -n 8 --seed 100 --size 260x348 --split train --force
    done
    cellseg-host synth "$more.part" --kind empty -n 30 --seed 100 --size 260x348 --split train --force
    mv "$more.part" "$more"
fi
train "$work/nuclei" "$more" --init "$work/base" --learning-rate 5e-4 --epochs 16 --steps 200 --patience 16 \
    --augment scale=0.5,2.0 --precision bfloat16
cellseg-host quantize "$work/nuclei" --int8 --data "$more" --name nuclei --out "$(dirname "$0")/nuclei.tflite"

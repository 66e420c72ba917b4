#!/bin/sh
# Make the bundled model again: sh models/train.sh DATASET [WORK]
# DATASET is DSB2018 as a folder of images/, labels/ and manifest.csv with the splits of nuclei.split.csv; WORK (runs)
# gets the data and the run. It may be stopped at any time: the same command goes on. cellseg-host must be on the PATH.
set -eu
[ $# -ge 1 ] || { sed -n 2,4p "$0" >&2; exit 2; }
dataset=$1 work=${2:-runs}
data=$work/nuclei-data run=$work/nuclei

if [ ! -e "$data/manifest.csv" ]; then
    cellseg-host data import --format labels "$dataset" "$data" || [ $? -eq 1 ]  # 1: some images were left out
fi
if [ -e "$run/checkpoint" ]; then
    cellseg-host train "$data" --out "$run" --resume
else
    cellseg-host train "$data" --arch edge-unet --epochs 110 --patience 40 --out "$run"
fi
cellseg-host quantize "$run" --int8 --data "$data" --name nuclei --out "$(dirname "$0")/nuclei.tflite"

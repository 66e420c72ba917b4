#!/bin/sh
# Make a model of this folder again: sh models/train.sh nuclei|nuclei-nano DATASET [WORK]
# DATASET is DSB2018 as a folder of images/, labels/ and manifest.csv with the splits of nuclei.split.csv; WORK (runs)
# gets the imported data and the run. It may be stopped at any time: the same command goes on. cellseg-host is to be on
# the PATH.
set -eu
[ $# -ge 2 ] || { sed -n 2p "$0" >&2; exit 2; }
name=$1 dataset=$2 work=${3:-runs}
case $name in
nuclei) arch=edge-unet ;;
nuclei-nano) arch=edge-unet-nano ;;
*) echo "$0: there is no model $name: nuclei or nuclei-nano" >&2; exit 2 ;;
esac
data=$work/nuclei-data run=$work/$name

if [ ! -e "$data/manifest.csv" ]; then
    cellseg-host data import --format labels "$dataset" "$data" || [ $? -eq 1 ]  # 1: some images were left out
fi
if ! grep -q '^empty-' "$data/manifest.csv"; then
    # Fields without a nucleus, 46 among 462: what is counted in them is counted wrongly
    for kind in fluorescence histology; do
        cellseg-host synth "$data" --kind $kind --empty -n 8 --seed 100 --size 260x348 --split train --force
    done
    cellseg-host synth "$data" --kind empty -n 30 --seed 100 --size 260x348 --split train --force
fi
if [ -e "$run/checkpoint" ]; then
    cellseg-host train "$data" --out "$run" --resume
else
    cellseg-host train "$data" --arch $arch --out "$run" --epochs 52 --steps 250 --patience 52 --precision bfloat16 \
        --augment scale=0.5,2.4 --augment invert=0.08
fi
cellseg-host quantize "$run" --int8 --data "$data" --name "$name" --out "$(dirname "$0")/$name.tflite"

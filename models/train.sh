#!/bin/sh
# Make the bundled models again: sh models/train.sh DATASET [WORK]
# DATASET is DSB2018 as a folder of images/, labels/ and manifest.csv with the splits of nuclei.split.csv; WORK (runs)
# gets the data and the runs. It may be stopped at any time: the same command goes on. cellseg-host must be on the PATH.
set -eu
[ $# -ge 1 ] || { sed -n 2,4p "$0" >&2; exit 2; }
dataset=$1 work=${2:-runs}
models=$(dirname "$0")
data=$work/nuclei-data more=$work/nuclei-data-and-empty-fields

trained() { # RUN DATA, and what it is trained with
    run=$1 on=$2
    shift 2
    if [ -e "$run/checkpoint" ]; then
        cellseg-host train "$on" --out "$run" --resume
    else
        cellseg-host train "$on" --out "$run" --arch edge-unet "$@"
    fi
}

quantized() { # RUN DATA OUT, and more flags
    run=$1 on=$2 out=$3
    shift 3
    cellseg-host quantize "$run" --int8 --data "$on" --out "$out" "$@"
}

if [ ! -e "$more/complete" ]; then
    rm -rf "$data" "$more"
    cellseg-host data import --format labels "$dataset" "$data" || [ $? -eq 1 ]  # 1: some images were left out
    cp -r "$data" "$more"
    # Fields without a nucleus, so that it learns to find nothing
    cellseg-host synth "$more" --kind empty -n 40 --seed 100 --size 260x348 --split train --force
    touch "$more/complete"
fi

# The teacher, which sees each training image from eight sides for the others, and from whose weights the first goes on
teacher=$work/teacher.tflite
trained "$work/teacher" "$data" --epochs 110 --patience 40 --augment saturation=0
quantized "$work/teacher" "$data" "$teacher" --name teacher

trained "$work/nuclei" "$more" --init "$teacher" --teacher "$teacher" --epochs 26 --steps 250 \
    --learning-rate 1e-3 --keep last --augment invert=0.06 --augment saturation=0.1
trained "$work/nuclei-nano" "$more" --option encoder=8,16,32,64 --option decoder=32,16,8 --teacher "$teacher" \
    --epochs 24 --steps 250 --keep last --augment invert=0.06 --augment saturation=0.1

for name in nuclei nuclei-nano; do
    quantized "$work/$name" "$more" "$models/$name.tflite" --name "$name"
    for tile in 256 512; do
        quantized "$work/$name" "$more" "$models/static/$name-$tile.tflite" --name "$name" --tile "$tile"
    done
done

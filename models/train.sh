#!/bin/sh
# Make the bundled models anew, in their place: sh models/train.sh DATASET [WORK [SET...]]
# DATASET is DSB2018 as a folder of images/, labels/ and manifest.csv with the splits of nuclei.split.csv; WORK (runs)
# gets the data and the runs. The SETs are the folders of the other data of kind.md, named as there; without them kind
# is not made. It may be stopped at any time: the same command goes on. cellseg-host must be on the PATH.
set -eu
[ $# -ge 1 ] || { sed -n 2,5p "$0" >&2; exit 2; }
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

quantized() { # RUN OUT, and more flags
    run=$1 out=$2
    shift 2
    cellseg-host quantize "$run" --int8 --data "$more" --out "$out" "$@"
}

averaged() { # NAME, and the RUNs whose mean it is
    out=$work/$1
    shift
    rm -rf "$out"
    for run; do set -- "$@" "$work/$run"; shift; done
    cellseg-host average "$@" --out "$out"
}

released() { # NAME of its run, for any size of image and for an Edge TPU
    quantized "$work/$1" "$models/$1.tflite" --name "$1"
    for tile in 256 512; do
        quantized "$work/$1" "$models/static/$1-$tile.tflite" --name "$1" --tile "$tile" --like "$models/$1.tflite"
    done
}

if [ ! -e "$more/complete" ]; then
    rm -rf "$data" "$more"
    cellseg-host data import --format labels "$dataset" "$data" || [ $? -eq 1 ]  # 1: some images were left out
    cp -r "$data" "$more"
    # Fields without a nucleus, so that it learns to find nothing
    cellseg-host synth "$more" --kind empty -n 80 --seed 100 --size 348x260 --split train --force
    touch "$more/complete"
fi

# Each goes on from an earlier one, which is its teacher as well: it sees each training image from eight sides. The
# third's views are nearer to real images, the fourth's between those and the second's; the fifth learns large nuclei
# again, which the third and the fourth had not seen, the sixth and the seventh nuclei in colour as well. What is released
# is the mean of these three (models/NOTES.md).
first=$work/first.tflite second=$work/second.tflite third=$work/third.tflite fourth=$work/fourth.tflite
trained "$work/first" "$data" --epochs 110 --patience 40 --augment saturation=0
quantized "$work/first" "$first"

trained "$work/second" "$more" --init "$first" --teacher "$first" --epochs 26 --steps 250 \
    --learning-rate 1e-3 --keep last --augment invert=0.06 --augment saturation=0.1
quantized "$work/second" "$second"

trained "$work/third" "$more" --init "$work/second" --teacher "$second" --epochs 8 --steps 200 \
    --learning-rate 7e-4 --keep last --augment invert=0.02 --augment saturation=0.05 \
    --augment scale=0.75,1.35 --augment stretch=0.08 --augment contrast=0.8,1.2 --augment gamma=0.8,1.25 \
    --augment brightness=0.05 --augment colour=0.06 --augment grey=0.04 --augment blur_px=0.7 --augment noise=0.03
quantized "$work/third" "$third"

mild="--augment invert=0.06 --augment saturation=0.05 --augment stretch=0.1 --augment contrast=0.7,1.25
    --augment gamma=0.75,1.35 --augment brightness=0.07 --augment colour=0.08 --augment blur_px=1"
trained "$work/fourth" "$more" --init "$work/third" --teacher "$second" --teacher "$third" --epochs 24 --steps 250 \
    --learning-rate 1e-3 --keep last $mild --augment scale=0.65,1.5
quantized "$work/fourth" "$fourth"

any="$mild --augment scale=0.6,1.9" fifth=$work/fifth.tflite
trained "$work/fifth" "$more" --init "$work/fourth" --teacher "$fourth" --epochs 14 --steps 250 \
    --learning-rate 1e-3 --keep last --border-weight 12 $any
quantized "$work/fifth" "$fifth"
trained "$work/sixth" "$more" --init "$work/fourth" --teacher "$fourth" --epochs 14 --steps 250 \
    --learning-rate 1e-3 --keep last --border-weight 12 $any --augment tint=0.1
trained "$work/seventh" "$more" --init "$work/fifth" --teacher "$fifth" --epochs 8 --steps 250 \
    --learning-rate 5e-4 --keep last --border-weight 12 $any --augment tint=0.06
averaged nuclei fifth sixth seventh
released nuclei

small="--option encoder=8,16,32,64 --option decoder=32,16,8"
trained "$work/nano-first" "$more" $small --teacher "$first" --epochs 24 --steps 250 \
    --monitor val_loss --augment invert=0.06 --augment saturation=0.1
trained "$work/nano-second" "$more" $small --init "$work/nano-first" --teacher "$fourth" --epochs 12 --steps 250 \
    --learning-rate 1e-3 --keep last $mild --augment scale=0.65,1.5
trained "$work/nano-third" "$more" $small --init "$work/nano-second" --teacher "$models/nuclei.tflite" --epochs 10 \
    --steps 250 --learning-rate 1e-3 --keep last $any
tinted="--epochs 8 --steps 250 --learning-rate 1e-3 --keep last --border-weight 12 $any --augment tint=0.1"
trained "$work/nano-fourth" "$more" $small --init "$work/nano-third" --teacher "$models/nuclei.tflite" $tinted --seed 1
trained "$work/nano-fifth" "$more" $small --init "$work/nano-third" --teacher "$models/nuclei.tflite" $tinted --seed 2
averaged nuclei-nano nano-third nano-fourth nano-fifth
released nuclei-nano

# Which kind of sample a field shows. Synthetic smears and phase contrast, since those of one laboratory look alike
[ $# -gt 2 ] || exit 0
shift 2
kinds=$work/kinds-data
if [ ! -e "$kinds/complete" ]; then
    rm -rf "$kinds"
    cellseg-host data import --format labels --format smear=images --kind ldc_brightfield=chamber --kind smear=smear \
        "$dataset" "$@" "$kinds" || [ $? -eq 1 ]
    drawn() { cellseg-host synth "$kinds" --force --kind "$@"; }
    for what in smear phase; do
        drawn $what -n 60 --seed 100 --size 640x480 --split train
        drawn $what -n 40 --seed 101 --size 400x360 --split train
        drawn $what -n 24 --seed 102 --size 640x480 --split val
    done
    drawn empty -n 60 --seed 100 --size 348x260 --split train
    drawn empty -n 20 --seed 120 --size 348x260 --split val
    drawn histology -n 40 --seed 100 --size 512x384 --split train
    drawn fluorescence -n 30 --seed 100 --size 512x384 --split train
    touch "$kinds/complete"
fi
trained "$work/kind" "$kinds" --arch kind-net --epochs 25 --steps 200 --side 192 --learning-rate 2.5e-3 \
    --augment invert=0 --augment scale=0.7,1.35 --augment stretch=0.1 --augment contrast=0.6,1.3 \
    --augment gamma=0.65,1.5 --augment brightness=0.1 --augment colour=0.12 --augment saturation=0.4 \
    --augment hue=0.02 --augment stain=0.4 --augment grey=0.06 --augment tint=0.06 --augment blur_px=0.8 \
    --augment noise=0.04
cellseg-host quantize "$work/kind" --int8 --data "$kinds" --out "$models/kind.tflite" \
    --follow fluorescence=segment:nuclei --looks-like "fluorescence=fluorescent nuclei" \
    --follow tissue=segment:nuclei --looks-like "tissue=stained tissue or cells" \
    --follow chamber=segment:chamber --looks-like "chamber=cells in a counting chamber" \
    --follow smear=flag:nuclei --looks-like "smear=a blood smear" \
    --follow other=flag:nuclei --looks-like "other=phase contrast, or something else that is not nuclei"

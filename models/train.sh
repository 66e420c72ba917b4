#!/bin/sh
# Make the bundled models anew, in their place: sh models/train.sh DATA [WORK]
# DATA holds a folder for each set, images/, labels/ and manifest.csv in it (kinds/smear: images alone), named as in SETS
# below; WORK (runs) gets the data sets and the runs. It may be stopped at any time: the same command goes on.
# cellseg-host must be on the PATH.
set -eu
[ $# -ge 1 ] || { sed -n 2,5p "$0" >&2; exit 2; }
sets=$1 work=${2:-runs}
models=$(dirname "$0")
# SETS: to learn nuclei from, those of DSB2018 and of other laboratories; and further kinds of samples
dsb=$sets/dsb2018
broad="$dsb $sets/dsb2018_stage1_test $sets/quip_synth_he $sets/aitslab1 $sets/bbbc039"
others="$sets/fnc_neurons $sets/ldc_brightfield $sets/usiigaci_phase $sets/kinds/smear"
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

quantized() { # RUN OUT DATA, and more flags
    run=$1 out=$2 on=$3
    shift 3
    cellseg-host quantize "$run" --int8 --data "$on" --out "$out" "$@"
}

averaged() { # NAME, and the RUNs whose mean it is
    out=$work/$1
    shift
    rm -rf "$out"
    for run; do set -- "$@" "$work/$run"; shift; done
    cellseg-host average "$@" --out "$out"
}

released() { # NAME of its run, its DATA, and more flags: for any size of image and for an Edge TPU
    name=$1 on=$2
    shift 2
    quantized "$work/$name" "$models/$name.tflite" "$on" --name "$name" "$@"
    for tile in 256 512; do
        quantized "$work/$name" "$models/static/$name-$tile.tflite" "$on" --name "$name" --tile "$tile" \
            --like "$models/$name.tflite"
    done
}

imported() { # DATA, and the options and sources: 1 says that some images were left out
    into=$1
    shift
    cellseg-host data import "$@" "$into" || [ $? -eq 1 ]
}

if [ ! -e "$more/complete" ]; then
    rm -rf "$data" "$more"
    imported "$data" --format labels "$dsb"
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
quantized "$work/first" "$first" "$more"

trained "$work/second" "$more" --init "$first" --teacher "$first" --epochs 26 --steps 250 \
    --learning-rate 1e-3 --keep last --augment invert=0.06 --augment saturation=0.1
quantized "$work/second" "$second" "$more"

trained "$work/third" "$more" --init "$work/second" --teacher "$second" --epochs 8 --steps 200 \
    --learning-rate 7e-4 --keep last --augment invert=0.02 --augment saturation=0.05 \
    --augment scale=0.75,1.35 --augment stretch=0.08 --augment contrast=0.8,1.2 --augment gamma=0.8,1.25 \
    --augment brightness=0.05 --augment colour=0.06 --augment grey=0.04 --augment blur_px=0.7 --augment noise=0.03
quantized "$work/third" "$third" "$more"

mild="--augment invert=0.06 --augment saturation=0.05 --augment stretch=0.1 --augment contrast=0.7,1.25
    --augment gamma=0.75,1.35 --augment brightness=0.07 --augment colour=0.08 --augment blur_px=1"
trained "$work/fourth" "$more" --init "$work/third" --teacher "$second" --teacher "$third" --epochs 24 --steps 250 \
    --learning-rate 1e-3 --keep last $mild --augment scale=0.65,1.5
quantized "$work/fourth" "$fourth" "$more"

any="$mild --augment scale=0.6,1.9" fifth=$work/fifth.tflite
trained "$work/fifth" "$more" --init "$work/fourth" --teacher "$fourth" --epochs 14 --steps 250 \
    --learning-rate 1e-3 --keep last --border-weight 12 $any
quantized "$work/fifth" "$fifth" "$more"
trained "$work/sixth" "$more" --init "$work/fourth" --teacher "$fourth" --epochs 14 --steps 250 \
    --learning-rate 1e-3 --keep last --border-weight 12 $any --augment tint=0.1
trained "$work/seventh" "$more" --init "$work/fifth" --teacher "$fifth" --epochs 8 --steps 250 \
    --learning-rate 5e-4 --keep last --border-weight 12 $any --augment tint=0.06
averaged plain fifth sixth seventh
plain=$work/plain.tflite
quantized "$work/plain" "$plain" "$more"

# Then nuclei of other laboratories: first the same network, then the one of low rank that is released, whose convolutions
# are taken apart at the start, with both larger networks as teachers, then with the broad one
wide=$work/wide-data
if [ ! -e "$wide/complete" ]; then
    rm -rf "$wide"
    # shellcheck disable=SC2086  # one word a set
    imported "$wide" --format labels $broad
    cellseg-host synth "$wide" --kind empty -n 80 --seed 100 --size 348x260 --split train --force
    touch "$wide/complete"
fi
stained="--augment invert=0.03 --augment colour=0.2 --augment grey=0.1 --augment tint=0.05 --augment scale=0.6,1.9
    --augment contrast=0.7,1.25 --augment gamma=0.7,1.5"
trained "$work/broad" "$wide" --init "$plain" --epochs 22 --steps 250 --learning-rate 1e-3 --keep last \
    --border-weight 12 $stained --augment saturation=0.35 --augment hue=0.08
broad_model=$work/broad.tflite
quantized "$work/broad" "$broad_model" "$wide"
trained "$work/eighth" "$wide" --option low_rank=true --init "$broad_model" --teacher "$broad_model" --teacher "$plain" \
    --epochs 6 --steps 250 --learning-rate 1.2e-3 --schedule constant --keep last --moving-average 0.998 \
    --border-weight 12 $stained --augment saturation=0.3 --augment hue=0.05 --augment stain=0.6
more_wide=$work/wide-data-and-tissue
if [ ! -e "$more_wide/complete" ]; then
    rm -rf "$more_wide"
    cp -r "$wide" "$more_wide"
    # Tissue with holes, fibres, red cells, folds and pen marks: without nuclei, and with
    cellseg-host synth "$more_wide" --kind tissue -n 60 --seed 100 --size 256x256 --split train --force
    cellseg-host synth "$more_wide" --kind histology -n 50 --seed 100 --size 384x384 --split train --force
    touch "$more_wide/complete"
fi
trained "$work/ninth" "$more_wide" --option low_rank=true --init "$work/eighth" --teacher "$broad_model" \
    --epochs 17 --steps 250 --learning-rate 1.2e-3 --keep last --moving-average 0.998 --border-weight 12 $stained \
    --augment saturation=0.3 --augment hue=0.05 --augment stain=0.5
trained "$work/tenth" "$more_wide" --option low_rank=true --init "$work/ninth" --teacher "$broad_model" \
    --epochs 21 --steps 500 --learning-rate 1.2e-3 --keep last --moving-average 0.998 --border-weight 12 $stained \
    --augment saturation=0.3 --augment hue=0.05 --augment stain=0.5
tenth=$work/tenth.tflite
quantized "$work/tenth" "$tenth" "$more_wide"
# At last without synthetic nuclei, at a constant rate: what is kept is the mean of some thousand steps
last_wide=$work/wide-data-and-ground
if [ ! -e "$last_wide/complete" ]; then
    rm -rf "$last_wide"
    cp -r "$wide" "$last_wide"
    cellseg-host synth "$last_wide" --kind tissue -n 40 --seed 100 --size 256x256 --split train --force
    touch "$last_wide/complete"
fi
trained "$work/eleventh" "$last_wide" --option low_rank=true --init "$work/tenth" --teacher "$tenth" \
    --teacher "$broad_model" --epochs 12 --steps 500 --learning-rate 6e-4 --schedule constant --keep last \
    --moving-average 0.9995 --border-weight 12 $stained --augment saturation=0.3 --augment hue=0.05 \
    --augment stain=0.4 --seed 2
averaged nuclei tenth eleventh
released nuclei "$wide" --threshold confidence=0.88 --threshold min_area_px=24

# Whole cells in a counting chamber: the same network, on from there
chambers=$work/chamber-data
if [ ! -e "$chambers/complete" ]; then
    rm -rf "$chambers"
    imported "$chambers" --format labels --kind chamber "$sets/ldc_brightfield"
    touch "$chambers/complete"
fi
trained "$work/chamber-plain" "$chambers" --init "$plain" --epochs 16 --steps 100 --learning-rate 1e-3 --keep last
chamber_plain=$work/chamber-plain.tflite
quantized "$work/chamber-plain" "$chamber_plain" "$chambers"
trained "$work/chamber" "$chambers" --option low_rank=true --init "$chamber_plain" --teacher "$chamber_plain" \
    --epochs 10 --steps 100 --side 224 --learning-rate 1e-3 --keep last --moving-average 0.99
released chamber "$chambers"

small="--option encoder=8,16,32,64 --option decoder=32,16,8"
trained "$work/nano-first" "$more" $small --teacher "$first" --epochs 24 --steps 250 \
    --monitor val_loss --augment invert=0.06 --augment saturation=0.1
trained "$work/nano-second" "$more" $small --init "$work/nano-first" --teacher "$fourth" --epochs 12 --steps 250 \
    --learning-rate 1e-3 --keep last $mild --augment scale=0.65,1.5
trained "$work/nano-third" "$more" $small --init "$work/nano-second" --teacher "$plain" --epochs 10 \
    --steps 250 --learning-rate 1e-3 --keep last $any
tinted="--epochs 8 --steps 250 --learning-rate 1e-3 --keep last --border-weight 12 $any --augment tint=0.1"
trained "$work/nano-fourth" "$more" $small --init "$work/nano-third" --teacher "$plain" $tinted --seed 1
trained "$work/nano-fifth" "$more" $small --init "$work/nano-third" --teacher "$plain" $tinted --seed 2
averaged nuclei-nano nano-third nano-fourth nano-fifth
released nuclei-nano "$more"

# Which kind of sample a field shows. Synthetic smears and phase contrast, since those of one laboratory look alike
kinds=$work/kinds-data
if [ ! -e "$kinds/complete" ]; then
    rm -rf "$kinds"
    # shellcheck disable=SC2086  # one word a set
    imported "$kinds" --format labels --format smear=images --kind ldc_brightfield=chamber --kind smear=smear $broad $others
    drawn() { cellseg-host synth "$kinds" --force --kind "$@"; }
    for what in smear phase; do
        drawn $what -n 160 --seed 100 --size 640x480 --split train
        drawn $what -n 100 --seed 101 --size 400x360 --split train
        drawn $what -n 24 --seed 102 --size 640x480 --split val
    done
    drawn empty -n 60 --seed 100 --size 348x260 --split train
    drawn empty -n 20 --seed 120 --size 348x260 --split val
    drawn histology -n 60 --seed 100 --size 512x384 --split train
    drawn tissue -n 40 --seed 100 --size 400x300 --split train
    drawn fluorescence -n 40 --seed 100 --size 512x384 --split train
    touch "$kinds/complete"
fi
trained "$work/kind" "$kinds" --arch kind-net --epochs 25 --steps 200 --side 192 --learning-rate 2.5e-3 \
    --moving-average 0.995 --augment invert=0 --augment scale=0.7,1.35 --augment stretch=0.1 --augment contrast=0.6,1.3 \
    --augment gamma=0.65,1.5 --augment brightness=0.1 --augment colour=0.25 --augment saturation=0.5 \
    --augment hue=0.04 --augment stain=0.6 --augment grey=0.1 --augment tint=0.15 --augment blur_px=0.8 \
    --augment noise=0.04
cellseg-host quantize "$work/kind" --int8 --data "$kinds" --out "$models/kind.tflite" \
    --follow fluorescence=segment:nuclei --looks-like "fluorescence=fluorescent nuclei" \
    --follow tissue=segment:nuclei --looks-like "tissue=stained tissue or cells" \
    --follow chamber=segment:chamber --looks-like "chamber=cells in a counting chamber" \
    --follow smear=flag:nuclei --looks-like "smear=a blood smear" \
    --follow other=flag:nuclei --looks-like "other=phase contrast, or something else that is not nuclei" \
    --sure-from 0.55

#!/usr/bin/env bash
# PNet and ONet from nothing, by the project's own scripts. Run again after a stop it goes on where it was.
#
#   bash MTCNN/weights/recipe.sh PHOTOS GLYPHS PLAIN_LIST WORK
#
# PHOTOS: CCPD photos, GLYPHS: pictures of the typeface, PLAIN_LIST: names of photos without true corners (an empty file
# will do), WORK: a folder for the samples (8 GB) and the weights, WORK/pnet and WORK/onet. Paths without spaces.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
photos=$(realpath "$1") glyphs=$(realpath "$2") plain=$(realpath "$3")
mkdir -p "$4" && cd "$4"
MTCNN=$root/MTCNN draw="python $root/ccpd/synthesize.py --workers 2 --glyphs $glyphs"
generate() { python "$MTCNN/data_preprocessing/gen_$1_train_data.py" --plain_list "$plain" --workers 2 "${@:2}"; }
assemble() { python "$MTCNN/data_preprocessing/assemble_$1_imglist.py" "${@:2}"; }
train() { python "$MTCNN/train/Train_$1.py" --workers 1 "${@:2}"; }

python "$MTCNN/data_set/preprocess.py" --img_dirs "$photos" --dir_train real --dir_val held_out
kinds="yellow white black green yellow_double motorcycle moped"
$draw --out drawn/kinds --seed 1 --subsets ccpd_{base,tilt,rotate,weather,blur} --kinds $kinds --count 400
$draw --out drawn/all --seed 2 --subsets ccpd_{base,blur,challenge,db,fn,rotate,tilt,weather,green} --count 150
$draw --out empty --seed 3 --subsets ccpd_np --count 500

# PNet: a short training, then a long one with the windows that the first mistakes for plates
swap="--swap 0.7 --glyphs $glyphs"
generate Pnet -dir_train real -dir_val held_out --seed 1 --views 6 --views_val 4 $swap --out_train p1 --out_val pv
generate Pnet -dir_train drawn/all drawn/kinds -dir_val --seed 2 --views 1 --out_train p2
assemble Pnet --samples_train p1 p2 --samples_val pv --list_train p12.txt --list_val pv.txt
train Pnet --list_train p12.txt --list_val pv.txt --epoch 6 --run runs/pnet1 --save pnet1
generate Pnet -dir_train real -dir_val --seed 3 --views 8 $swap --mine pnet1 --mined 12 --out_train p3
generate Pnet -dir_train empty -dir_val --seed 4 --views 2 --far 24 --mine pnet1 --mined 12 --out_train p4
assemble Pnet --samples_train p1 p2 p3 p4 --samples_val pv --list_train p1234.txt --list_val pv.txt
train Pnet --list_train p1234.txt --list_val pv.txt --weights pnet1 --epoch 18 --batch_size 1024 --learning_rate 6e-3 \
    --run runs/pnet --save pnet

# ONet: on what PNet proposes, then on what it then gets wrong itself
views="--near 6 --positives 14 --parts 10 --far 24"
hard="--poses ccpd_blur ccpd_db ccpd_fn ccpd_rotate"
for round in 1 2; do
    mined=$([ $round = 1 ] && echo "--pnet pnet" || echo "--pnet pnet --onet onet1")
    generate Onet -dir_train real -dir_val held_out --seed ${round}1 $mined $views --views 6 --views_val 4 $swap \
        --out_train o${round}1 --out_val o${round}v
    generate Onet -dir_train real -dir_val --seed ${round}2 $mined $views --views 4 $hard --out_train o${round}2
    generate Onet -dir_train drawn/kinds drawn/all -dir_val --seed ${round}3 $mined $views --views 1 --out_train o${round}3
    generate Onet -dir_train empty -dir_val --seed ${round}4 $mined --near 6 --positives 10 --parts 5 --far 40 --views 1 \
        --out_train o${round}4
    if [ $round = 1 ]; then
        assemble Onet --samples_train o1{1,2,3,4} --samples_val o1v --list_train o1.txt --list_val o1v.txt
        train Onet --list_train o1.txt --list_val o1v.txt --epoch 5 --box_loss ends --run runs/onet1 --save onet1
    fi
done
assemble Onet --samples_train o1{1,2,3,4} o2{1,2,3,4} --take .5 .5 .5 .5 1 1 1 1 --samples_val o2v --list_train o2.txt \
    --list_val o2v.txt
train Onet --list_train o2.txt --list_val o2v.txt --weights onet1 --epoch 5 --box_loss ends --run runs/onet --save onet

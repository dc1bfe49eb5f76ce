#!/usr/bin/env bash
# LPRNet and its spatial transformer from nothing, by the project's own scripts, on two cores. Run again after a stop it
# goes on where it was.
#
#   bash LPRNet/weights/recipe.sh CROPS PHOTOS GLYPHS PLAIN_LIST WORK
#
# CROPS: real crops called <plate>_<number>.jpg, PHOTOS: CCPD photos, GLYPHS: pictures of the typeface, PLAIN_LIST: names
# of photos without true corners (an empty file will do), WORK: a folder for what is drawn and cut (300 MB) and the
# weights, WORK/lprnet3 and WORK/stn3. Paths without spaces.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
crops=$(realpath "$1") photos=$(realpath "$2") glyphs=$(realpath "$3") plain=$(realpath "$4")
mkdir -p "$5" && cd "$5"
draw="python $root/ccpd/synthesize.py --glyphs $glyphs"
cut="python $root/LPRNet/data/preprocess.py"
train="python $root/LPRNet/LPRNet_Train.py --img_dirs_val cut/val --hold_out 0.1 --glyphs $glyphs --batch_size 64
    --epoch_samples 20000"

python "$root/MTCNN/data_set/preprocess.py" --img_dirs "$photos" -dir_train real -dir_val held_out
$cut -dir_train real -dir_val held_out --plain_list "$plain" --out cut
$draw --out drawn/kinds --seed 1 --subsets ccpd_{base,tilt,rotate,weather,blur} --kinds yellow white black green --count 60
$draw --out drawn/all --seed 2 --subsets ccpd_{base,blur,challenge,db,fn,rotate,tilt,weather,green} --count 40
$cut -dir_train drawn -dir_val --out cut_drawn

OMP_NUM_THREADS=2 $train --img_dirs_train "$crops" cut/train --epoch 12 --dropout_rate 0.2 --seed 1 --workers 1 \
    --run runs/1 --save lprnet1 stn1

# then twice two trainings side by side, each on a core, of which the mean goes on
export OMP_NUM_THREADS=1
two() {
    for half in a b; do
        $train --img_dirs_train "$crops" cut/train cut/train cut/train cut_drawn/train --straightening 0.4 --workers 0 \
            --weights "lprnet$1" "stn$1" --run "runs/$2$half" --save "lprnet$2$half" "stn$2$half" \
            --seed "$2$([ $half = a ] && echo 1 || echo 2)" "${@:3}" &
    done
    wait -n
    wait -n
    for net in lprnet stn; do
        python "$root/platekit/average_weights.py" "$net$2a" "$net$2b" --save "$net$2"
    done
}
two 1 2 --rendered_share 0.45 --epoch 14 --learning_rate 1.5e-3 --dropout_rate 0.1
two 2 3 --rendered_share 0.4 --epoch 6 --learning_rate 8e-4 --dropout_rate 0

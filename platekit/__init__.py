"""What both stages stand on, and at the top the chain of both.

errors, signals, arguments         bad input, ends that were asked for, what flags have in common
files, paths, tables, revision     files written whole, where things lie, CSV tables, which code it is
inputs, images, opencv, drawing    what a user names, pictures in and out, results drawn
boxes, corners, crops              their arithmetic, and what both stages cut out of a picture
devices, memory, compiled, ahead   where and how it is computed
checkpoints, onnx_nets             nets on disk
training, loaders, muon            the loop of both stages' trainings, its processes, its optimiser
average_weights                    the script that makes means of weights
distributed, sharing, parts        several processes, and results that survive a kill
results, command                   what is found, and the command line of pictures
video, frames, containers          videos: their frames, and how long their files say they are
fusion, tracking, plate_crops      readings of one plate, plates followed, pictures of them

Only these know the stages: pipeline (PlateReader), read_plates (the command line of the whole), serve (the same as a
web page).
"""

import os
import sys

# Larger pictures are refused by their header, before memory is taken for them. OpenCV reads this when it is loaded.
_LIMIT = "OPENCV_IO_MAX_IMAGE_PIXELS"
_given = os.environ.get(_LIMIT, "")
_MOST = 128_000_000
MAX_PIXELS = min(int(_given) or _MOST, _MOST) if _given.isdecimal() else _MOST
OPENCV_KNOWS_LIMIT = "cv2" not in sys.modules
os.environ[_LIMIT] = str(MAX_PIXELS)

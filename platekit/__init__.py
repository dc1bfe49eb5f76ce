"""What both stages stand on: pictures, boxes, devices, checkpoints, drawing and the training loop."""

import os

# Larger pictures are refused by their header, before memory is taken for them. OpenCV reads this when it is loaded.
MAX_PIXELS = 128_000_000
os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(MAX_PIXELS)

"""What both stages stand on: pictures, boxes, devices, checkpoints, drawing and the training loop."""

"""The detector: PNet over an image pyramid, then ONet on the proposals. ``MTCNN.MTCNN`` has the public names."""

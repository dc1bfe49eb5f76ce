"""The recogniser: the spatial transformer straightens a crop, LPRNet reads it.

model          the two networks as published, fast forms of them, and how they are trained in bfloat16
alphabet       symbols, and what logits say; confidence: how sure; rows: plates of two rows
recogniser     boxes in a picture -> texts; onnx_reader the same by onnxruntime; details: colour, corners
data           crops: preprocess cuts CCPD's, crops_of_boxes one's own; crop_names and labels say what they show,
               load_data and augment make views of them; rendered draws others, training_plates mixes both
LPRNet_Train   trains both nets, train_colour the colour's; transfer: starts from weights of another alphabet
LPRNet_Test    reads crops, with score; export_onnx writes both nets as ONNX files
"""

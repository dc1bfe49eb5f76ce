"""The detector: PNet over an image pyramid, then ONet on the proposals. ``MTCNN.MTCNN`` has the public names.

model               the two networks as published, and fast forms of them
detector            from a picture to boxes, by pyramid (its levels), scan (PNet over them) and rough (a first look)
paths               where weights, photos and samples lie
data_set            preprocess and split divide CCPD; boxes_of_labels (label_formats) and boxes_of_results make tables
                    of other photos
data_preprocessing  gen_* make samples: photos, views of them (swap puts other plates in), windows that choosers take,
                    sample_store; assemble_* make lists of them
train               dataset, augment, losses, trainer; Train_Pnet and Train_Onet are its scripts
MTCNN               finds plates in pictures, with score; export_onnx writes both nets as ONNX files
"""

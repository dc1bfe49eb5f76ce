"""The CCPD data set: its file names, where it lies, and a synthetic stand-in for it. Unpack the photos in this folder.

annotation   what a photo's name says, in both directions
dataset      the subsets, the releases, and the search for their folders
geometry     how plates lie in the photos, as statistics with a sampler; fit_geometry fits them
plates       pictures of plates, from plate_kinds and plate_numbers
scenes       whole photos, from layout, cars, street, textures and camera
tones        how bright plates are beside blue ones in the same light
symbols      what plates are written in
synthesize   the script that draws a stand-in for the data set
views        photos seen anew, in the poses, light and blur of CCPD's, to train on
vary         the script that changes photos as other cameras and light would, to test on
rare_plates  the script that draws and measures plates whose numbers CCPD's names cannot hold
evaluate     the accuracy by the data set's protocol, with protocol, report and figures
"""

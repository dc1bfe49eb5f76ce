"""On a CUDA GPU everything is as on the CPU. Skipped where there is none."""

import numpy as np
import pytest
import torch

from LPRNet.alphabet import Alphabet
from LPRNet.LPRNet_Train import logits_of, reading_loss
from LPRNet.model.training import TrainingLPRNet
from LPRNet.recogniser import Reader
from MTCNN.detector import Detector
from MTCNN.train import Train_Onet
from MTCNN.train.dataset import SampleList
from MTCNN.train.trainer import evaluate, train
from platekit.boxes import box_iou
from platekit.crops import CROP_SIZE, crop_resize, sample_boxes, upload
from platekit.images import read_image
from platekit.paths import SAMPLES
from platekit.pipeline import PlateReader
from platekit.training import Run, Settings
from tests.conftest import make_picture
from tests.makers import options_for, write_list

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
CUDA = torch.device("cuda")


def test_the_same_plates_are_found_and_read():
    readers = [PlateReader(device) for device in ("cuda", "cpu")]
    for path in sorted(SAMPLES.glob("*.jpg")):
        found, wanted = (reader(path).plates for reader in readers)
        assert [plate.text for plate in found] == [plate.text for plate in wanted]
        for plate, other in zip(found, wanted):  # rounding can choose another proposal
            assert box_iou(np.array([plate.box]), np.array([other.box])).item() > 0.96
            assert (plate.confidence, plate.detection_score) == pytest.approx(
                (other.confidence, other.detection_score), abs=0.01)


def test_crops_are_the_same():
    image = make_picture(240, 700, 2)
    boxes = np.array([[150.0, 60, 520, 170], [-20, -10, 700, 250], [3, 5, 30, 12]])
    theta = torch.tensor([[0.9, 0.2, 0.1], [-0.1, 1.1, 0]]).repeat(3, 1, 1)
    cut, sampled = (crop_resize(upload(image, device), boxes).cpu() for device in ("cuda", "cpu"))
    torch.testing.assert_close(cut, sampled, atol=1e-3, rtol=0)
    cut, sampled = (sample_boxes(upload(image, device), boxes, theta.to(device)).cpu() for device in ("cuda", "cpu"))
    torch.testing.assert_close(cut, sampled, atol=0.05, rtol=0)


def test_a_training_chooses_by_the_same_logits():
    nets, crops = Reader(5, 0.0, TrainingLPRNet).eval(), torch.randint(0, 256, (9, 3, *CROP_SIZE), dtype=torch.uint8)
    wanted = logits_of(nets, crops, torch.device("cpu"))
    torch.testing.assert_close(logits_of(nets.to(CUDA), crops, CUDA), wanted, atol=0.05, rtol=0.01)


def test_bands_of_a_large_picture_change_nothing(monkeypatch):
    detector, image = Detector(device="cuda"), read_image(sorted(SAMPLES.glob("*.jpg"))[0])
    whole = detector.detect(image)
    monkeypatch.setattr("MTCNN.scan.BAND_PIXELS", {"cuda": 100_000})
    assert len(whole) and detector.detect(image).boxes == pytest.approx(whole.boxes, abs=0.01)


def test_between_stages_the_processor_waits_for_the_gpu_few_times():
    """Once for PNet's answer and its size, once for each of ONet's rounds; once for a plate's reading."""
    reader = PlateReader("cuda")
    pixels = reader.detector.upload(read_image(sorted(SAMPLES.glob("*.jpg"))[0]))
    boxes = reader.detector.find(pixels).boxes
    assert len(boxes) == 1 and reader.recogniser.read(pixels, boxes)[0].confidence > 0.8
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with pytest.warns(UserWarning) as finding:
            reader.detector.find(pixels)
        with pytest.warns(UserWarning) as reading:
            reader.recogniser.read(pixels, boxes)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = [sum("called a synchronizing" in str(warning.message) for warning in part) for part in (finding, reading)]
    assert waits == [2 + reader.detector.rounds, 1]


@pytest.mark.parametrize("half", [True, False])
def test_a_training_learns_on_the_gpu(tmp_path, half):
    torch.manual_seed(0)
    alphabet = Alphabet()
    corners = torch.full((8, 4, 2), torch.nan)
    batch = torch.randn(8, 3, *CROP_SIZE), torch.arange(56) % 60, torch.full((8,), 7), corners
    run = Run(tmp_path, Reader(len(alphabet), lprnet=TrainingLPRNet).train(), Settings(1, 8, 1e-3, bfloat16=half), CUDA)
    losses = [run.train_step(batch, reading_loss(alphabet, CUDA, 0.2), 1e-3)["ctc"] for _ in range(30)]
    assert losses[-1] < losses[0] / 2
    assert {tensor.device.type for tensor in run.average.state_dict().values() if tensor.dim()} == {"cuda"}


def test_the_detector_learns_on_the_gpu_from_bytes(tmp_path, monkeypatch):
    lists, seen = write_list(tmp_path, (24, 94)), []
    collate = SampleList.collate
    monkeypatch.setattr(SampleList, "collate", lambda data, keys: seen.append(collate(data, keys)) or seen[-1])
    trained = train(Train_Onet.RECIPE, options_for(Train_Onet.RECIPE, tmp_path, lists, "--epoch", 6, "--batch_size", 16,
                                                   "--learning_rate", 3e-3, "--device", "cuda", precision=()))
    assert seen[0].pixels.dtype == torch.uint8
    assert evaluate(trained, SampleList(lists, False, (24, 94)), CUDA)["precision"] > 0.95

"""ONNX: the exported nets give what torch gives at any size, carry their alphabet, and run the whole chain."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from ccpd.annotation import parse
from LPRNet import export_onnx as export_recogniser
from LPRNet.alphabet import Alphabet, Reading
from LPRNet.onnx_reader import OnnxReader, Probabilities, facts_of
from LPRNet.recogniser import Reader, Recogniser, load_reader, save_reader
from main import main
from MTCNN import detector
from MTCNN import export_onnx as export_detector
from MTCNN.paths import ONET_WEIGHTS, PNET_WEIGHTS
from platekit.errors import UserError
from platekit.images import read_image
from platekit.inputs import find_images
from platekit.onnx_nets import OnnxNet, compare
from platekit.paths import SAMPLES
from tests.conftest import ROOT, files_below, make_picture, put_picture

ALPHABET = Alphabet("0123456789XYZ-", 6)


@pytest.fixture(scope="module", autouse=True)
def packages() -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is optional: pip install -r requirements-extras.txt")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled nets and a random recogniser of another alphabet, exported."""
    folder = tmp_path_factory.mktemp("onnx")
    torch.manual_seed(0)
    save_reader(Reader(len(ALPHABET)), ALPHABET, folder / "lprnet.pth", folder / "stn.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_recogniser, "CROPS_VAL", folder / "none")
        patch.setattr(sys, "argv", ["export", "--pnet_onnx", f"{folder}/pnet.onnx",
                                    "--onet_onnx", f"{folder}/onet.onnx"])
        export_detector.main()
        patch.setattr(sys, "argv", ["export", "--lprnet", f"{folder}/lprnet.pth", "--stn", f"{folder}/stn.pth",
                                    "--lprnet_onnx", f"{folder}/own.onnx", "--stn_onnx", f"{folder}/own_stn.onnx"])
        export_recogniser.main()
        patch.setattr(sys, "argv", ["export", "--lprnet_onnx", f"{folder}/lprnet.onnx",
                                    "--stn_onnx", f"{folder}/stn.onnx"])
        export_recogniser.main()
    return folder


def flags(folder: Path) -> list[str]:
    return ["--backend", "onnx", *(part for net in ("pnet", "onet", "lprnet", "stn")
                                   for part in (f"--{net}", str(folder / f"{net}.onnx")))]


def test_the_files_are_small(exported):
    sizes = {name: (exported / f"{name}.onnx").stat().st_size for name in ("pnet", "onet", "lprnet", "stn")}
    assert sum(sizes.values()) < 5_000_000 and not list(exported.glob("*.data"))


def test_the_whole_chain_gives_the_same_without_torch_computing_a_net(call, exported, monkeypatch, tmp_path):
    wanted = call(main, "--image", SAMPLES, "--json", "-", "--device", "cpu")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("torch computes a layer")

    for name in ("conv2d", "linear", "prelu", "relu"):
        monkeypatch.setattr(torch.nn.functional, name, refuse)
    found = call(main, "--image", SAMPLES, "--json", "-", *flags(exported))
    assert (wanted.status, found.status) == (0, 0), found.err
    for mine, theirs in zip(wanted.out.splitlines(), found.out.splitlines(), strict=True):
        mine, theirs = json.loads(mine)["plates"], json.loads(theirs)["plates"]
        assert [plate["text"] for plate in mine] == [plate["text"] for plate in theirs]
        for one, other in zip(mine, theirs):
            assert one["box"] == pytest.approx(other["box"], abs=0.2)
            # a first view may be read in bfloat16 by torch
            assert one["confidence"] == pytest.approx(other["confidence"], abs=1e-2)


def test_an_alphabet_of_ones_own_travels_with_the_file(exported):
    torch_recogniser = Recogniser(exported / "lprnet.pth", exported / "stn.pth", "cpu")
    recogniser = Recogniser(exported / "own.onnx", exported / "own_stn.onnx", "cpu")
    assert recogniser.alphabet.chars == ALPHABET.chars and recogniser.alphabet.max_length == 6
    pictures = [make_picture(30, 100, seed) for seed in range(5)]
    found, wanted = recogniser.read_pictures(pictures), torch_recogniser.read_pictures(pictures)
    assert [reading.text for reading in found] == [reading.text for reading in wanted]
    for one, other in zip(found, wanted):
        assert one.confidence == pytest.approx(other.confidence, abs=1e-3)
    assert recogniser.straighten(pictures[0]).shape == (24, 94, 3)


def test_files_that_were_not_exported_together_are_told_apart(exported, capsys):
    OnnxReader(exported / "own.onnx", exported / "own_stn.onnx")
    assert capsys.readouterr().err == ""
    OnnxReader(exported / "own.onnx", exported / "stn.onnx")
    assert "own.onnx was made with other weights" in capsys.readouterr().err


INPUTS = {"pnet": ((1, 12, 47), (1, 77, 203)), "onet": ((1, 24, 94), (3, 24, 94)), "stn": ((1, 24, 94), (3, 24, 94)),
          "lprnet": ((1, 24, 94), (3, 24, 94))}  # crops, height and width
OTHERS = "is asked for by no file of this project: pip install openvino ncnn pnnx"


def smooth_inputs(net: str) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [functional.interpolate(torch.rand(count, 3, 8, 32, generator=generator) * 2 - 1, size, mode="bilinear")
            for count, *size in INPUTS[net]]


@pytest.mark.parametrize("net", INPUTS)
def test_openvino_gives_the_same(exported, net):
    openvino = pytest.importorskip("openvino", reason=f"openvino {OTHERS}")
    path = exported / f"{net}.onnx"
    found = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for x in smooth_inputs(net):
        wanted = OnnxNet(path)(x)
        for number, one in enumerate(wanted if isinstance(wanted, tuple) else (wanted,)):
            assert found(x.numpy())[number] == pytest.approx(one.numpy(), abs=1e-4)


@pytest.mark.parametrize("net", INPUTS)
def test_ncnn_gives_the_same(exported, net, tmp_path):
    ncnn = pytest.importorskip("ncnn", reason=f"ncnn {OTHERS}")
    converter = shutil.which("pnnx", path=Path(sys.executable).parent)
    if converter is None:
        pytest.skip(f"pnnx {OTHERS}")
    shutil.copy(exported / f"{net}.onnx", tmp_path)
    first = smooth_inputs(net)[0]
    subprocess.run([converter, f"{net}.onnx", f"inputshape={list(first.shape)}".replace(" ", ""), "fp16=0"],
                   cwd=tmp_path, check=True, capture_output=True)
    found = ncnn.Net()
    found.opt.use_fp16_packed = found.opt.use_fp16_storage = found.opt.use_fp16_arithmetic = False
    assert found.load_param(f"{tmp_path}/{net}.ncnn.param") == found.load_model(f"{tmp_path}/{net}.ncnn.bin") == 0
    for x in smooth_inputs(net):
        for index, crop in enumerate(x.numpy()):  # it knows no batches
            extractor = found.create_extractor()
            extractor.input("in0", ncnn.Mat(crop).clone())
            wanted = OnnxNet(exported / f"{net}.onnx")(x[index:index + 1])
            for number, one in enumerate(wanted if isinstance(wanted, tuple) else (wanted,)):
                output = np.array(extractor.extract(f"out{number}")[1])
                assert output == pytest.approx(one[0].reshape(output.shape).numpy(), abs=1e-4)


def test_real_crops_have_the_same_texts(exported, shared_data):
    crops = shared_data / "crops" / "val"
    export_recogniser.compare_texts(crops, Recogniser(device="cpu"),
                                    Recogniser(exported / "lprnet.onnx", exported / "stn.onnx", "cpu"))


def test_a_file_of_other_weights_is_noticed(exported, capsys):
    other = detector.Detector(PNET_WEIGHTS, ONET_WEIGHTS, "cpu").pnet
    with torch.no_grad():
        other.conv4_1.bias[1] += 0.1
    with pytest.raises(UserError, match="differs from torch"):
        compare(other, OnnxNet(exported / "pnet.onnx"), {"random": torch.rand(1, 3, 30, 60)})
    assert "largest difference" in capsys.readouterr().out


@pytest.mark.parametrize(("content", "reason"), [(None, "not found; write the ONNX"), (b"no net", "cannot load")])
def test_files_that_are_missing_or_broken(call, exported, tmp_path, content, reason):
    if content:
        (tmp_path / "pnet.onnx").write_bytes(content)
    put_picture(tmp_path / "a.png", make_picture(60, 100))
    done = call(main, "--image", tmp_path / "a.png", "--json", "a.jsonl", *flags(exported),
                "--pnet", tmp_path / "pnet.onnx", cwd=tmp_path)
    assert done.status == 2 and reason in done.sentence() and "a.jsonl" not in files_below(tmp_path)


@pytest.mark.parametrize(("net", "other"), [("pnet", "onet"), ("pnet", "stn"), ("onet", "pnet"), ("onet", "lprnet")])
def test_a_file_of_another_net_is_refused(exported, net, other):
    paths = {name: exported / f"{name}.onnx" for name in ("pnet", "onet")} | {net: exported / f"{other}.onnx"}
    with pytest.raises(UserError, match=rf"{other}\.onnx holds another network"):
        detector.Detector(**paths, device="cpu")


def write_constants(path: Path, facts: dict[str, str] | None = None, **outputs: np.ndarray) -> Path:
    """A file of a network that gives the same whatever it sees."""
    import onnx
    from onnx import helper, numpy_helper

    nodes = [helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value.astype(np.float32)))
             for name, value in outputs.items()]
    shapes = {"x": ("n", 3, 24, 94), **{name: value.shape for name, value in outputs.items()}}
    infos = [helper.make_tensor_value_info(name, 1, shape) for name, shape in shapes.items()]
    model = helper.make_model(helper.make_graph(nodes, "net", infos[:1], infos[1:]), ir_version=8,
                              opset_imports=[helper.make_opsetid("", 17)])
    helper.set_model_props(model, facts or {})
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(("offsets", "scores"), [(np.zeros((2, 3)), np.zeros((2, 2))), (np.zeros((2, 4)), np.zeros(2)),
                                                 (np.zeros((2, 4)), np.full((2, 2), np.nan))])
def test_outputs_of_other_shapes_or_that_are_no_numbers_are_refused_at_once(tmp_path, offsets, scores):
    path = write_constants(tmp_path / "onet.onnx", offsets=offsets, scores=scores)
    with pytest.raises(UserError, match=r"onet\.onnx does not make 2 x 4 and 2 x 2 finite numbers"):
        detector.Detector(PNET_WEIGHTS, path, "cpu")


@pytest.mark.parametrize(("transforms", "classes", "wrong"), [(np.zeros((2, 2, 3)), 5, "lprnet"),
                                                              (np.zeros((2, 3, 2)), 14, "stn"),
                                                              (np.full((2, 2, 3), np.inf), 14, "stn")])
def test_an_alphabet_must_fit_the_readers_outputs(tmp_path, transforms, classes, wrong):
    stn = write_constants(tmp_path / "stn.onnx", transforms=transforms)
    lprnet = write_constants(tmp_path / "lprnet.onnx", facts_of(ALPHABET), probabilities=np.zeros((2, classes, 18)))
    with pytest.raises(UserError, match=rf"{wrong}\.onnx does not make"):
        OnnxReader(lprnet, stn)
    stn = write_constants(tmp_path / "stn.onnx", transforms=np.zeros((2, 2, 3)))
    lprnet = write_constants(tmp_path / "lprnet.onnx", facts_of(ALPHABET), probabilities=np.zeros((2, 14, 18)))
    reader = OnnxReader(lprnet, stn)
    assert reader.alphabet.chars == ALPHABET.chars and reader(torch.zeros(2, 3, 24, 94)).isfinite().all()  # of zeros
    two = write_constants(tmp_path / "two.onnx", facts_of(Alphabet(ALPHABET.chars, ALPHABET.max_length, 2)),
                          probabilities=np.zeros((2, 14, 18)))
    assert [OnnxReader(path, stn).alphabet.rows for path in (lprnet, two)] == [1, 2]


def test_the_readers_file_computes_what_both_nets_do():
    reader, _ = load_reader()
    crops = export_recogniser.random_crops(4)
    with torch.inference_mode():
        torch.testing.assert_close(Probabilities(reader)(crops), reader(crops).softmax(dim=1), rtol=1e-3, atol=1e-4)


def test_the_readers_files_are_told_apart(exported):
    for lprnet, stn in (("lprnet", "lprnet"), ("stn", "stn"), ("lprnet", "onet")):
        with pytest.raises(UserError, match="holds another network"):
            OnnxReader(exported / f"{lprnet}.onnx", exported / f"{stn}.onnx")


def test_onnxruntime_is_asked_for_by_name(call, exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = call(main, "--image", SAMPLES, *flags(exported))
    assert done.status == 2 and "pip install onnx onnxruntime" in done.sentence()
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setattr(sys, "argv", ["export"])
    with pytest.raises(UserError, match="onnxscript"):
        export_detector.main()


@pytest.mark.parametrize("net", ["pnet", "lprnet"])
def test_the_backend_runs_no_nets_of_torch(call, net):
    done = call(main, f"--{net}", "my.pth", "--backend", "onnx")
    assert done.status == 2 and "--backend onnx takes ONNX files" in done.sentence() and "my.pth" in done.sentence()


def test_the_backend_is_for_the_cpu(call, exported):
    done = call(main, "--image", SAMPLES, *flags(exported), "--device", "cuda")
    assert done.status == 2 and "leave out --device" in done.sentence()


def test_a_net_takes_any_number_of_crops_and_any_picture(exported):
    with torch.inference_mode():
        for count in (1, 5, 130):
            assert OnnxNet(exported / "lprnet.onnx")(torch.zeros(count, 3, 24, 94)).shape == (count, 68, 18)
        for height, width in ((12, 47), (77, 1234)):
            offsets, scores = OnnxNet(exported / "pnet.onnx")(torch.zeros(1, 3, height, width))
            assert offsets.shape[1] == 4 and scores.shape[2:] == offsets.shape[2:]


def test_crops_that_are_not_there_are_said_before_any_work(call, tmp_path):
    done = call(export_recogniser.main, "--crops", tmp_path / "none", "--lprnet_onnx", tmp_path / "l.onnx")
    assert done.status == 2 and "--crops" in done.sentence() and files_below(tmp_path) == []


def test_the_example_of_the_faq_reads_the_samples(exported, monkeypatch):
    code = (ROOT / "FAQ.md").read_text("utf-8").partition("```python\nimport cv2, numpy as np, onnxruntime")[2]
    monkeypatch.chdir(exported)
    names: dict = {}
    exec("import cv2, numpy as np, onnxruntime" + code.partition("```")[0], names)
    for path in find_images(SAMPLES):
        annotation = parse(path)
        assert names["read"](read_image(path), annotation.box) == annotation.plate


def test_a_text_that_differs_in_onnxruntime_is_an_error(tmp_path):
    put_picture(tmp_path / "a.png", make_picture(24, 94))
    mine, other = (SimpleNamespace(read_pictures=lambda pictures, text=text: [Reading(text, 0.9)] * len(pictures))
                   for text in ("皖A12345", "皖A12346"))
    with pytest.raises(UserError, match=r"1 crops of .* read otherwise"):
        export_recogniser.compare_texts(tmp_path, mine, other)


def test_the_export_compares_texts_on_the_crops_named(call, tmp_path, monkeypatch):
    compared = []
    monkeypatch.setattr(export_recogniser, "export", lambda net, inputs, axes, path, *_: path.touch())
    monkeypatch.setattr(export_recogniser, "Recogniser", lambda *_: Recogniser(device="cpu"))
    monkeypatch.setattr(export_recogniser, "compare_texts", lambda folder, *_: compared.append(folder))
    done = call(export_recogniser.main, "--crops", tmp_path, "--lprnet_onnx", tmp_path / "lprnet.onnx", "--stn_onnx",
                tmp_path / "stn.onnx")
    assert done.status == 0 and compared == [tmp_path], done


def test_files_are_loaded_whatever_the_default_type_is(exported):
    torch.set_default_dtype(torch.float64)
    try:
        detector.Detector(exported / "pnet.onnx", exported / "onet.onnx", "cpu")
    finally:
        torch.set_default_dtype(torch.float32)


def test_two_networks_do_not_get_one_file(call, tmp_path):
    done = call(export_recogniser.main, "--lprnet_onnx", "a.onnx", "--stn_onnx", tmp_path / "a.onnx", cwd=tmp_path)
    assert done.status == 2 and "two networks" in done.sentence() and not list(tmp_path.iterdir())


def test_a_file_that_computes_something_else_replaces_none(call, tmp_path, monkeypatch):
    monkeypatch.setattr("platekit.onnx_nets.LARGEST_DIFFERENCE", -1.0)
    (tmp_path / "pnet.onnx").write_text("earlier")
    done = call(export_detector.main, "--pnet_onnx", tmp_path / "pnet.onnx", "--onet_onnx", tmp_path / "onet.onnx")
    assert done.status == 2 and "onnxruntime differs from torch" in done.err
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("pnet.onnx", "earlier")]


@pytest.mark.parametrize(("module", "flag"), [(export_detector, "--pnet_onnx"), (export_recogniser, "--lprnet_onnx")])
def test_a_file_that_would_not_be_known_for_an_onnx_file_is_not_written(call, tmp_path, module, flag):
    done = call(module.main, flag, tmp_path / "net.bin", cwd=tmp_path)
    assert done.status == 2 and "does not end in .onnx" in done.sentence() and not list(tmp_path.iterdir())

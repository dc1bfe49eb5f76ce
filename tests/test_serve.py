"""The web page and its server: a process of its own, asked as browsers and other programs ask it."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from urllib.parse import quote

import cv2
import numpy as np
import pytest

from main import main
from platekit import serve
from platekit.errors import UserError
from platekit.results import PictureResult
from tests.conftest import RESULT, ROOT

pytest.importorskip("starlette", reason="starlette is optional: pip install -r requirements-extras.txt")
pytest.importorskip("uvicorn", reason="uvicorn is optional: pip install -r requirements-extras.txt")

SAMPLE = max((ROOT / "ccpd" / "samples").glob("*.jpg"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """Host and port. At the end it is asked politely to stop, and must not have complained."""
    command = [sys.executable, str(ROOT / "platekit" / "serve.py"), "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, cwd=tmp_path_factory.mktemp("elsewhere"), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True) as process:
        said = re.match(r"open http://(127\.0\.0\.1):(\d+) ", process.stdout.readline())
        assert said, process.stderr.read()
        yield said[1], int(said[2])
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (-signal.SIGTERM, 128 + signal.SIGTERM)
        assert process.stderr.read() == ""


def ask(server: tuple[str, int], method: str, path: str, body: bytes | None = None,
        headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*server, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def post(server: tuple[str, int], body: bytes, name: str = "picture") -> tuple[int, dict]:
    status, answer = ask(server, "POST", f"/read?name={quote(name)}", body)
    entry = json.loads(answer)
    RESULT.validate(entry)
    assert entry["image"] == name
    return status, entry


def test_a_picture_is_answered_as_main_does(server, call):
    done = call(main, "--image", SAMPLE, "--json", "-", "--device", "cpu")
    line = json.loads(done.out)
    status, entry = post(server, SAMPLE.read_bytes(), "车 1.jpg")
    assert status == 200 and entry["plates"]
    assert {**entry, "image": "", "ms": {}} == {**line, "image": "", "ms": {}} and list(entry) == list(line)


def form(*parts: bytes) -> bytes:
    return b"".join(b"--XX\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts) + b"--XX--\r\n"


def test_a_form_with_a_file_is_read_as_the_file(server):
    """As curl -F and most HTTP libraries send it."""
    picture = SAMPLE.read_bytes()
    wanted = post(server, picture, "a.jpg")[1]
    file = b'name="upload"; filename="\xe8\xbd\xa6.jpg"\r\nContent-Type: image/jpeg\r\n\r\n' + picture
    for kind in ("multipart/form-data; boundary=XX", 'Multipart/Form-Data; boundary="XX"'):
        body = form(b'name="a"\r\n\r\n1', file)
        status, answer = ask(server, "POST", "/read?name=a.jpg", body, {"Content-Type": kind})
        assert status == 200 and {**json.loads(answer), "ms": {}} == {**wanted, "ms": {}}
        _, answer = ask(server, "POST", "/read", body, {"Content-Type": kind})
        assert json.loads(answer)["image"] == "车.jpg"
    unused = b'name="b"; filename=""\r\nContent-Type: application/octet-stream\r\n\r\n'
    for body, name in ((form(file, unused), "车.jpg"), (form(file.replace(b"\xe8\xbd\xa6.jpg", b"")), "picture")):
        status, answer = ask(server, "POST", "/read", body, {"Content-Type": "multipart/form-data; boundary=XX"})
        assert status == 200 and json.loads(answer)["image"] == name
    for body, kind in ((form(b'name="a"\r\n\r\n1'), "multipart/form-data; boundary=XX"),
                       (form(file), "multipart/form-data"),
                       (form(file, file), "multipart/form-data; boundary=XX"), (b"", "multipart/form-data; boundary=")):
        status, answer = ask(server, "POST", "/read", body, {"Content-Type": kind})
        assert status == 400 and "form" in json.loads(answer)["error"]


@pytest.mark.parametrize("name", [b'filename="\xff.jpg"', b'filename="\xed\xa0\x80.jpg"'])
def test_a_name_that_is_no_text_does_not_keep_a_picture_from_being_read(server, name):
    status, answer = ask(server, "POST", "/read", form(b"name=a; " + name + b"\r\n\r\n" + png(30)),
                         {"Content-Type": "multipart/form-data; boundary=XX"})
    assert status == 200 and json.loads(answer)["image"].isprintable()


def test_what_a_form_may_hold_beside_its_file():
    file, kind = (b'name=b; filename="a.jpg"\r\n\r\n1', "multipart/form-data; boundary=XX")
    parts = [b"name=a\r\n\r\n1"] * (serve.MOST_PARTS - 1)
    body = form(*parts, file) + b"behind" * 1000
    assert serve.file_of_form(body, kind) == (b"1", "a.jpg")
    with pytest.raises(UserError, match="more than 20 parts"):
        serve.file_of_form(form(*parts, file, file), kind)


@pytest.mark.parametrize(("part", "kind"), [
    (b"filename=a\r\n\r\n", "boundary=XX"), (b"name=a; filename=b\r\n\r\n", "boundary*=idna''XX"),
    (b"name=a\0b\r\nX\0: 1\r\n\r\n", "boundary=XX"), (b"", "boundary=XX")])
def test_a_form_that_says_nonsense_is_an_error_of_the_forms(server, part, kind):
    status, answer = ask(server, "POST", "/read", form(part), {"Content-Type": f"multipart/form-data; {kind}"})
    assert status == 400 and "the form cannot be read" in json.loads(answer)["error"]


@pytest.mark.parametrize(("body", "kind", "why"), [
    (form(b'x="' + b";" * 1_000_000), "boundary=XX", "header"),
    (form(*[b"name=a\r\n\r\n1"] * 1_000_000), "boundary=XX", "parts"),
    (b"", 'boundary="' + ";" * 1_000_000, "Boundary")], ids=["head", "parts", "type"])
def test_forms_that_would_take_minutes_to_parse_are_refused(body, kind, why):
    started = time.process_time()
    with pytest.raises(UserError, match=f"cannot be read.*{why}"):
        serve.file_of_form(body, f"multipart/form-data; {kind}")
    assert time.process_time() - started < 5  # as it is 0.02 s


def test_an_app_that_another_server_makes_has_the_flags_of_the_environment(monkeypatch):
    made = []
    monkeypatch.setattr(serve, "make_reader", lambda args: made.append(args) or (lambda image: None))
    monkeypatch.setenv("PLATES_FLAGS", "--details --mini_lp 30 10 --device cpu")
    serve.make_app()
    assert (made[0].details, made[0].mini_lp, made[0].device) == (True, [30, 10], "cpu")


def test_the_page_and_health(server):
    status, page = ask(server, "GET", "/")
    assert status == 200 and page == serve.PAGE.read_bytes()
    assert not re.findall(rb"https?:", page), "it must work where there is no internet"
    assert ask(server, "GET", "/health") == (200, b'{"status":"ok"}')


@pytest.mark.parametrize("body", [b"", b"no picture", SAMPLE.read_bytes()[:1000]])
def test_what_is_no_picture_is_an_error(server, body):
    status, entry = post(server, body, "broken.jpg")
    assert status == 400 and entry["error"].startswith("cannot decode broken.jpg: ")


def test_files_that_are_too_large_are_refused_before_they_are_held(server):
    with socket.create_connection(server, timeout=60) as line:  # refused by what it says, before anything is sent
        line.sendall(b"POST /read HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % (serve.MAX_BYTES + 1))
        assert line.recv(100).startswith(b"HTTP/1.1 413 ")
    with socket.create_connection(server, timeout=60) as line:  # or when there is too much, as it does not say
        line.sendall(b"POST /read HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(serve.MAX_BYTES >> 20):
            line.sendall(b"100000\r\n" + bytes(1 << 20) + b"\r\n")
        line.sendall(b"1\r\n0\r\n")
        assert line.recv(100).startswith(b"HTTP/1.1 413 ")


def test_unknown_ways_are_errors_in_json(server):
    assert ask(server, "GET", "/elsewhere") == (404, b'{"error":"Not Found"}')
    assert ask(server, "GET", "/read")[0] == 405
    status, answer = ask(server, "POST", "/read?name=a.jpg&details=1", SAMPLE.read_bytes())
    assert status == 400 and "started with --details" in json.loads(answer)["error"]


def test_slow_clients_and_those_that_go_keep_nobody_waiting(server):
    slow = [socket.create_connection(server, timeout=60) for _ in range(2 * serve.MOST)]
    for line in slow:  # they say that they send something, and don't
        line.sendall(b"POST /read HTTP/1.1\r\nHost: here\r\nContent-Length: 10\r\n\r\n12345")
    assert post(server, SAMPLE.read_bytes())[0] == 200
    for line in slow:  # and go away
        line.close()
    assert post(server, SAMPLE.read_bytes())[0] == 200


OWN_READER = """import sys, time
from pathlib import Path
from types import MappingProxyType
import torch
from platekit import serve
from platekit.results import PictureResult

class Reader:
    def __call__(self, picture):
        pass

    def read(self, image):
        with open("reads", "a") as file:
            file.write(".")
        while not Path("go").exists():
            time.sleep(0.01)
        if image.shape[1] < 30:
            width = image.shape[1]
            raise MemoryError if width < 10 else torch.OutOfMemoryError if width < 20 else RuntimeError("it broke")
        return PictureResult(image.shape[1], image.shape[0], ())

serve.make_reader = lambda args: Reader()
# other limits
serve.command()
"""


@pytest.fixture
def own_server(request, tmp_path):
    """A server whose reader waits for a file ``go`` in ``tmp_path`` and fails for narrow pictures."""
    (tmp_path / "own.py").write_text(OWN_READER.replace("# other limits", getattr(request, "param", "")))
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "own.py", "--port", "0"], cwd=tmp_path, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, env=env, text=True) as process:
        yield "127.0.0.1", int(re.match(r"open http://127\.0\.0\.1:(\d+) ", process.stdout.readline())[1])
        process.terminate()
        process.wait(50)  # an upload may take longer


def png(width: int) -> bytes:
    return cv2.imencode(".png", np.zeros((40, width, 3), np.uint8))[1].tobytes()


def test_too_many_at_a_time_are_told_to_come_again_and_who_goes_is_not_read(own_server, tmp_path):
    lines = [socket.create_connection(own_server, timeout=60) for _ in range(serve.MOST + 4)]
    for line in lines:
        line.sendall(b"POST /read HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % len(png(50)) + png(50))
    refused: list[socket.socket] = []
    while len(refused) < 4:
        ready = select.select([line for line in lines if line not in refused], [], [], 60)[0]
        assert ready
        refused += ready
    assert all(line.recv(100).startswith(b"HTTP/1.1 503 ") for line in refused)
    waiting = [line for line in lines if line not in refused]
    for line in waiting[:10]:
        line.close()
    assert ask(own_server, "GET", "/health")[0] == 200
    (tmp_path / "go").touch()
    assert all(line.recv(100).startswith(b"HTTP/1.1 200 ") for line in waiting[10:])
    assert 6 <= len((tmp_path / "reads").read_text()) <= 8  # two may have been at it when they went


def test_who_has_gone_keeps_no_place(own_server, tmp_path):
    """Though the picture that is read takes long."""
    def send() -> socket.socket:
        line = socket.create_connection(own_server, timeout=60)
        line.sendall(b"POST /read HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % len(png(50)) + png(50))
        return line

    lines = [send() for _ in range(serve.MOST)]
    with send() as line:
        lines.append(line)  # too many: one of them is told so
        (refused,) = select.select(lines, [], [], 60)[0]
        assert refused.recv(100).startswith(b"HTTP/1.1 503 ")
    for line in lines:
        line.close()
    for _ in range(100):
        with send() as line:
            if not select.select([line], [], [], 1)[0]:  # it waits
                (tmp_path / "go").touch()
            answer = line.recv(100)
        if answer.startswith(b"HTTP/1.1 200 "):
            break
        time.sleep(0.2)
    assert (tmp_path / "go").exists() and answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("own_server", ["serve.HANGS = 1"], indirect=True)
def test_where_reading_hangs_nobody_waits_and_health_says_so(own_server, tmp_path):
    for _ in range(3):  # also those who come later
        status, entry = post(own_server, png(50))
        assert status == 503 and "reading hangs" in entry["error"]
    assert ask(own_server, "GET", "/health")[0] == 503
    (tmp_path / "go").touch()
    while ask(own_server, "GET", "/health")[0] != 200:
        time.sleep(0.01)
    assert post(own_server, png(50))[0] == 200


@pytest.mark.parametrize(("width", "status", "reason"), [
    (5, 503, "the server's memory is too small"), (15, 503, "the GPU's memory is too small"),
    (25, 500, "cannot be read")])
def test_what_goes_wrong_inside_is_json_too(own_server, tmp_path, width, status, reason):
    (tmp_path / "go").touch()
    answer, entry = post(own_server, png(width), "a.png")
    assert answer == status and reason in entry["error"]
    assert post(own_server, png(50))[0] == 200


def test_a_server_that_cannot_read_any_more_says_so(own_server, tmp_path):
    """Whatever watches it starts it again, as after an error of the GPU that does not go away."""
    (tmp_path / "go").touch()
    told = []
    for width in (25, 25, 15, 5, 25, 50):  # two that break, two too large for memory, one that breaks, one that is read
        post(own_server, png(width), "a.png")
        told.append(ask(own_server, "GET", "/health")[0])
    assert told == [200, 200, 200, 200, 503, 200]


def test_the_address_is_uvicorns_where_it_makes_the_server(monkeypatch, capsys):
    monkeypatch.setenv("PLATES_FLAGS", "--port 9000")
    with pytest.raises(SystemExit):
        serve.reader_of_environment()
    assert "which are uvicorn's" in capsys.readouterr().err


def test_an_unfinished_upload_does_not_keep_the_server_from_stopping(own_server):
    line = socket.create_connection(own_server)  # the fixture ends with it open
    line.sendall(b"POST /read HTTP/1.1\r\nHost: here\r\nContent-Length: 10\r\n\r\n12345")
    assert ask(own_server, "GET", "/health")[0] == 200


@pytest.mark.parametrize("own_server", ["serve.SECONDS, serve.HELD_BYTES = 10, 300"], indirect=True)
def test_what_does_not_arrive_and_what_is_too_much_at_a_time_is_refused(own_server):
    head = b"POST /read HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n\r\n"
    assert ask(own_server, "GET", "/health")[0] == 200  # the first answer takes long
    with socket.create_connection(own_server, timeout=60) as slow:
        slow.sendall(head + bytes(250))
        assert ask(own_server, "GET", "/health")[0] == 200  # what was sent has arrived by then
        status, entry = post(own_server, bytes(100), "more.jpg")
        assert status == 503 and "too many pictures are arriving" in entry["error"]
        assert slow.recv(100).startswith(b"HTTP/1.1 408 ")
    assert post(own_server, bytes(100))[0] == 400  # no picture, but there is room for it again


def test_a_port_that_is_taken_is_a_sentence(server, call):
    done = call(serve.main, "--port", server[1])
    assert done.status == 2 and f"cannot listen on 127.0.0.1, port {server[1]} (" in done.sentence()
    assert "name others with --host and --port" in call(serve.main, "--port", 70000).sentence()


@pytest.mark.parametrize("package", ["starlette", "python_multipart", "uvicorn"])
def test_a_missing_package_is_a_sentence(package, call, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    done = call(serve.main, "--port", "0")
    assert done.status == 2 and f"the package {package} cannot be loaded" in done.sentence()
    assert done.sentence().endswith("run 'pip install starlette uvicorn python-multipart'")


def test_the_server_listens_where_it_is_told(call, monkeypatch):
    asked = []
    monkeypatch.setattr(serve, "listen", lambda *place: asked.append(place) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        call(serve.main, "--host", "0.0.0.0", "--port", 8123)
    assert asked == [("0.0.0.0", 8123)]


def test_pictures_are_read_one_at_a_time_in_the_thread_that_made_the_reader():
    """Each thread that computes has OpenMP threads of its own, and all of them are in each other's way."""
    threads, at_it, most = [], [], []

    class Slow:
        def __init__(self):
            threads.append(threading.current_thread())

        def __call__(self, picture):
            threads.append(threading.current_thread())

        def read(self, image):
            threads.append(threading.current_thread())
            at_it.append(image)
            most.append(len(at_it))
            time.sleep(0.05)
            at_it.pop()
            return PictureResult(1, 1, ())

    class Asked(SimpleNamespace):
        headers, query_params, url = {}, {}, SimpleNamespace(path="/read")

        async def stream(self):
            yield png(8)

        async def is_disconnected(self):
            return False

    async def ask_at_once():
        return await asyncio.gather(*(desk.answer(Asked(state=SimpleNamespace())) for _ in range(4)))

    desk = serve.Desk(Slow)
    answers = asyncio.run(ask_at_once())
    assert [json.loads(answer.body)["image"] for answer in answers] == ["picture"] * 4
    assert most == [1, 1, 1, 1] and len(threads) == 6 and len(set(threads)) == 1
    assert threads[0] is not threading.main_thread()


def test_the_servers_own_flags_make_its_reader(call, monkeypatch):
    made = []
    monkeypatch.setattr(serve, "make_reader", lambda args: made.append(args) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        call(serve.main, "--port", 0, "--details", "--mini_lp", 30, 10, "--device", "cpu")
    assert (made[0].details, made[0].mini_lp, made[0].device) == (True, [30, 10], "cpu")


@pytest.mark.parametrize(("flags", "said"), [
    ("--lprnet missing.pth", "error: weights missing.pth not found"), ("--mini_lp", "--mini_lp"),
    ("--device 'cpu", "No closing quotation")])
def test_workers_with_wrong_flags_are_not_started_again(monkeypatch, capsys, flags, said):
    """3 is the status on which uvicorn gives up, others it takes for accidents."""
    monkeypatch.setenv("PLATES_FLAGS", flags)
    with pytest.raises(SystemExit) as ended:
        serve.make_app()
    assert ended.value.code == 3 and said in capsys.readouterr().err

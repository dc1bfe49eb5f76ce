"""A web page that reads plates, and the same for other programs: a picture in, the JSON of main.py out.

    pip install starlette uvicorn python-multipart
    python platekit/serve.py                                     # then open http://127.0.0.1:8000
    curl --data-binary @photo.jpg http://127.0.0.1:8000/read     # one JSON object

Several processes, or another server: ``uvicorn --factory platekit.serve:make_app --workers 4``, with flags of
this script in the environment's variable ``PLATES_FLAGS``.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch

from platekit.arguments import HelpFormatter, add_seed
from platekit.devices import add_device, lacks_memory
from platekit.errors import UserError, need, reason, run_script
from platekit.images import decode_image
from platekit.inputs import find_images
from platekit.paths import SAMPLES
from platekit.pipeline import PlateReader
from platekit.read_plates import add_reader_arguments, make_reader
from platekit.results import PictureResult

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

PACKAGES = "starlette uvicorn python-multipart"
PAGE = Path(__file__).with_name("page.html")
ADDRESS = "127.0.0.1", 8000
MAX_BYTES = 64 << 20  # of a picture's file
HELD_BYTES = 4 * MAX_BYTES  # of all files at a time
MOST = 16  # pictures at a time, all but one of them waiting
SECONDS = 60  # for a picture to arrive
LAST_SECONDS = 5  # for what is under way when the server is stopped
HANGS = 60  # seconds of reading one picture: it takes a new start too
LOOKS = 0.5  # seconds between looks whether who waits is still there, and whether reading hangs
FAILURES = 3  # pictures one after the other that failed here, whatever they were: it takes a new start
MOST_PARTS = 20  # of a form
STARTUP_FAILED = 3  # the status by which uvicorn's workers say that starting them again is of no use


def make_app() -> Starlette:
    """The server as an ASGI application: the page at ``/``, pictures to ``/read``, and ``/health``, whose status is 503
    once ``FAILURES`` pictures have failed in a row, and while one is read for longer than ``HANGS``.

    ``POST /read`` takes a picture's file as its body, or a form that holds one, and answers with the JSON of a line of
    main.py, in which ``image`` is the query's ``name``, or the form's for its file. Errors are JSON too: 400 what is no
    picture or more than one, 408 what does not arrive, 413 what is too large, 503 when too many wait, memory is too
    small or reading hangs, 500 for everything else. The flags in ``PLATES_FLAGS`` make the reader.
    """
    return app_of(reader_of_environment)


def app_of(make: Callable[[], PlateReader]) -> Starlette:
    """``make_app`` with the reader that ``make`` makes, in the thread that will compute with it."""
    for package in ("starlette", "python_multipart"):
        need(package, PACKAGES)
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # what clients send is told to them
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.responses import FileResponse, JSONResponse
    from starlette.routing import Route

    def refuse(request: Request, error: Exception) -> Response:
        status, detail, headers = (error.status_code, error.detail, error.headers) \
            if isinstance(error, HTTPException) else (500, "this picture cannot be read; the server says why", None)
        named = {"image": name_of(request)} if request.url.path.endswith("/read") else {}
        return JSONResponse({**named, "error": detail}, status, headers)

    desk = Desk(make)
    return Starlette(routes=[
        Route("/", lambda _: FileResponse(PAGE)),
        Route("/read", desk.answer, methods=["POST"]),
        Route("/health", lambda _: JSONResponse({"status": "broken"}, 503) if desk.broken
              else JSONResponse({"status": "ok"})),
    ], exception_handlers={HTTPException: refuse, Exception: refuse})


def reader_of_environment() -> PlateReader:
    """A reader by the flags in ``PLATES_FLAGS``; where these are wrong that is said, and the process ends."""
    try:
        args = parse_arguments(shlex.split(os.environ.get("PLATES_FLAGS", "")))
        if (args.host, args.port) != ADDRESS:
            raise UserError("PLATES_FLAGS has --host or --port, which are uvicorn's here; give them to it")
        return make_reader(args)
    except ValueError as error:  # a quotation mark is missing, or a UserError
        print(f"error: {error}", file=sys.stderr)
    except SystemExit:  # argparse has said why
        pass
    raise SystemExit(STARTUP_FAILED)


def name_of(request: Request) -> str:
    """What the client calls its picture."""
    return request.query_params.get("name") or getattr(request.state, "file_name", "") or "picture"


class Desk:
    """Where pictures arrive, wait and are read, one at a time and with all cores, while the next one is decoded."""

    def __init__(self, make: Callable[[], PlateReader]) -> None:
        # All computing is one thread's: several would each have OpenMP threads, which then sleep after every layer.
        self.computing, self.decoding = ThreadPoolExecutor(1), ThreadPoolExecutor(2)
        self.places = asyncio.Semaphore(2)
        self.held = self.waiting = 0  # bytes of files, and pictures
        self.failures = 0  # since the last picture that was read
        self.began: float | None = None  # when the picture that is read now was begun
        self.reader = self.computing.submit(make).result()
        # The first reading compiles and loads: before the first visitor comes.
        self.computing.submit(self.reader, find_images(SAMPLES)[0]).result()

    @property
    def hangs(self) -> bool:
        """Whether a picture is read for too long: nothing ends that but its thread."""
        began = self.began
        return began is not None and time.monotonic() - began > HANGS

    @property
    def broken(self) -> bool:
        """Whether the server has to be started anew."""
        return self.hangs or self.failures >= FAILURES

    async def answer(self, request: Request) -> Response:
        """The plates of the picture that a request brings, or an HTTPException."""
        from starlette.exceptions import HTTPException
        from starlette.requests import ClientDisconnect
        from starlette.responses import JSONResponse

        if unknown := set(request.query_params) - {"name"}:
            raise HTTPException(400, f"/read knows name, and no {min(unknown)}; details are told by a server that was "
                                     "started with --details")
        parts: list[bytes] = []
        try:
            await asyncio.wait_for(self.receive(request, parts), SECONDS)
            if self.waiting == MOST:
                raise HTTPException(503, "too many pictures are waiting; try again", {"Retry-After": "1"})
            self.waiting += 1
            try:
                result = await self.while_wanted(request, self.read_in_turn(request, parts))
            finally:
                self.waiting -= 1
        except UserError as error:
            raise HTTPException(400, str(error)) from None
        except (asyncio.TimeoutError, ClientDisconnect):
            raise HTTPException(408, f"the picture did not arrive within {SECONDS} seconds; try again") from None
        except Exception as error:
            if not lacks_memory(error):
                raise
            torch.cuda.empty_cache()
            whose = "the GPU's" if isinstance(error, torch.OutOfMemoryError) else "the server's"
            raise HTTPException(503, f"cannot read {name_of(request)}: {whose} memory is too small for it") from None
        finally:
            self.held -= sum(map(len, parts))
        return JSONResponse({"image": name_of(request), **result.to_dict()})

    async def read_in_turn(self, request: Request, parts: list[bytes]) -> PictureResult:
        """What is in a request's picture, once those before it are read."""
        from starlette.requests import ClientDisconnect

        async with self.places:
            if await request.is_disconnected():
                raise ClientDisconnect
            loop = asyncio.get_running_loop()
            image = await loop.run_in_executor(self.decoding, decode, parts, request)
            return await loop.run_in_executor(self.computing, self.read, image)

    async def while_wanted(self, request: Request, work: Coroutine[Any, Any, PictureResult]) -> PictureResult:
        """What ``work`` comes to; it gives its place up when the client goes, and when another one's reading hangs."""
        from starlette.exceptions import HTTPException
        from starlette.requests import ClientDisconnect

        task = asyncio.create_task(work)
        try:
            while not task.done():
                if self.hangs:
                    raise HTTPException(503, "reading hangs; the server has to be started again", {"Retry-After": "60"})
                if await request.is_disconnected():
                    raise ClientDisconnect
                await asyncio.wait({task}, timeout=LOOKS)
            return task.result()
        finally:
            task.cancel()

    def read(self, image: np.ndarray) -> PictureResult:
        """The reader's result; failures that no picture explains are counted."""
        self.began = time.monotonic()
        try:
            result = self.reader.read(image)
        except Exception as error:
            self.failures += not (isinstance(error, UserError) or lacks_memory(error))
            raise
        finally:
            self.began = None
        self.failures = 0
        return result

    async def receive(self, request: Request, parts: list[bytes]) -> None:
        """A request's body into ``parts``, whatever it says of its size; HTTPException where that is too much."""
        from starlette.exceptions import HTTPException

        too_large = HTTPException(413, f"the file has more than {MAX_BYTES >> 20} MB; make it smaller")
        if int(request.headers.get("content-length", 0)) > MAX_BYTES:
            raise too_large
        size = 0
        async for part in request.stream():
            parts.append(part)
            size, self.held = size + len(part), self.held + len(part)
            if size > MAX_BYTES:
                raise too_large
            if self.held > HELD_BYTES:
                raise HTTPException(503, "too many pictures are arriving; try again", {"Retry-After": "1"})


def decode(parts: list[bytes], request: Request) -> np.ndarray:
    """The picture that a request has brought: BGR uint8 (H, W, 3). UserError where it is none."""
    file, kind = b"".join(parts), request.headers.get("content-type", "")
    if kind.lower().startswith("multipart/form-data"):
        file, request.state.file_name = file_of_form(file, kind)
    return decode_image(np.frombuffer(file, np.uint8), name_of(request))


def file_of_form(body: bytes, kind: str) -> tuple[bytes, str]:
    """The file in a form of this content type (RFC 7578), and its name. UserError unless there is exactly one."""
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import Field, File, create_form_parser

    parts: list[Field | File] = []

    def take(part: Field | File) -> None:
        parts.append(part)
        if len(parts) > MOST_PARTS:  # the parser itself takes any number
            raise FormParserError(f"it has more than {MOST_PARTS} parts")

    try:
        parser = create_form_parser({"Content-Type": kind.encode()}, take, take, {"MAX_MEMORY_FILE_SIZE": MAX_BYTES})
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise UserError(f"the form cannot be read ({error}); send one picture's file as a part with a filename") \
            from None
    files = [part for part in parts if isinstance(part, File) and (part.file_name or part.size)]  # browsers send others
    if len(files) != 1:
        raise UserError(f"the form has {len(files) or 'no'} file{'s' * (len(files) > 1)}; send one picture's file as a "
                        "part with a filename")
    (file,) = files
    file.file_object.seek(0)
    return file.file_object.read(), (file.file_name or b"").decode("utf-8", "replace")


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; UserError when it cannot."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError, TypeError) as error:  # TypeError: no name of a host
        raise UserError(f"cannot listen on {host}, port {port} ({reason(error)}); name others with --host and --port") \
            from None


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Serve a web page, and POST /read for programs, that read plates in pictures.",
        formatter_class=HelpFormatter)
    parser.add_argument("--host", default=ADDRESS[0],
                        help="address to listen on; 0.0.0.0 lets other machines in")
    parser.add_argument("--port", type=int, default=ADDRESS[1], help="0 takes any that is free")
    add_device(parser)
    add_seed(parser)
    add_reader_arguments(parser)
    return parser.parse_args(arguments)


def main() -> None:
    args = parse_arguments()
    uvicorn = need("uvicorn", PACKAGES)
    need("starlette", PACKAGES)
    with listen(args.host, args.port) as door:
        app = app_of(lambda: make_reader(args))
        host, port = door.getsockname()[:2]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        print(f"open http://{f'[{host}]' if ':' in host else host}:{port} in a browser; Ctrl-C ends it", flush=True)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=LAST_SECONDS)
        uvicorn.Server(config).run(sockets=[door])


def command() -> None:
    """The installed command ``serve-plates``."""
    run_script(main)


if __name__ == "__main__":
    command()

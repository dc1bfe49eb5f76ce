"""A web page that reads plates, and the same for other programs: a picture in, the JSON of main.py out.

    pip install starlette uvicorn
    python platekit/serve.py                                     # then open http://127.0.0.1:8000
    curl --data-binary @photo.jpg http://127.0.0.1:8000/read     # one JSON object

Several processes, or another server: ``uvicorn --factory platekit.serve:make_app --workers 4``.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from platekit.arguments import add_seed
from platekit.devices import DEVICE_HELP
from platekit.errors import UserError, need, run_script
from platekit.images import decode_image, find_images
from platekit.pipeline import PlateReader
from platekit.places import SAMPLES
from platekit.read_plates import add_reader_arguments, make_reader
from platekit.results import PictureResult

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

PACKAGES = "starlette uvicorn"
PAGE = Path(__file__).with_name("page.html")
MAX_BYTES = 64 << 20  # of a picture's file
MOST = 16  # pictures at a time, all but one of them waiting
SECONDS = 60  # for a picture to arrive


def make_app(reader: PlateReader | None = None) -> Starlette:
    """The server as an ASGI application: the page at ``/``, pictures to ``/read``, and ``/health``.

    ``POST /read`` takes a picture's file as its body and answers with the JSON of a line of main.py, in which ``image``
    is the query's ``name``. Errors are JSON too: 400 what is no picture, 408 what does not arrive, 413 what is too
    large, 503 when too many wait.
    """
    need("starlette", PACKAGES)
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect
    from starlette.responses import FileResponse, JSONResponse
    from starlette.routing import Route

    reader = reader or PlateReader()
    reader(find_images(SAMPLES)[0])  # what is compiled or loaded at the first picture is so before the first visitor's
    threads = ThreadPoolExecutor(2)  # one decodes a picture while the other reads one, with all cores
    turn, taken = threading.Lock(), threading.BoundedSemaphore(MOST)

    def decode_and_read(data: bytes, name: str) -> PictureResult:
        image = decode_image(np.frombuffer(data, np.uint8), name)
        with turn:
            return reader.read(image)

    async def body_of(request: Request) -> bytes:
        parts, size = [], int(request.headers.get("content-length", 0))
        if size <= MAX_BYTES:
            size = 0
            async for part in request.stream():
                parts.append(part)
                size += len(part)
                if size > MAX_BYTES:
                    break
        if size > MAX_BYTES:
            raise HTTPException(413, f"the file has more than {MAX_BYTES >> 20} MB; make it smaller")
        return b"".join(parts)

    async def read(request: Request) -> Response:
        name = request.query_params.get("name", "picture")
        if not taken.acquire(blocking=False):
            raise HTTPException(503, "too many pictures are waiting; try again", {"Retry-After": "1"})
        try:
            data = await asyncio.wait_for(body_of(request), SECONDS)
            result = await asyncio.get_running_loop().run_in_executor(threads, decode_and_read, data, name)
        except UserError as error:
            raise HTTPException(400, str(error)) from None
        except (asyncio.TimeoutError, ClientDisconnect):
            raise HTTPException(408, f"the picture did not arrive within {SECONDS} seconds; try again") from None
        finally:
            taken.release()
        return JSONResponse({"image": name, **result.to_dict()})

    def refuse(request: Request, error: HTTPException) -> Response:
        name = request.query_params.get("name", "picture")
        return JSONResponse({"image": name, "error": error.detail}, error.status_code, error.headers)

    return Starlette(routes=[
        Route("/", lambda _: FileResponse(PAGE)),
        Route("/read", read, methods=["POST"]),
        Route("/health", lambda _: JSONResponse({"status": "ok"})),
    ], exception_handlers={HTTPException: refuse})


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; UserError when it cannot."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise UserError(f"cannot listen on {host}, port {port} ({getattr(error, 'strerror', None) or error}); name "
                        "others with --host and --port") from None


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Serve a web page, and other programs, that send pictures to read.")
    parser.add_argument("--host", default="127.0.0.1",
                        help="address to listen on; 0.0.0.0 lets other machines in")
    parser.add_argument("--port", type=int, default=8000, help="0 takes any that is free")
    parser.add_argument("--device", default="auto", help=f"{DEVICE_HELP}")
    add_seed(parser)
    add_reader_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    uvicorn = need("uvicorn", PACKAGES)
    need("starlette", PACKAGES)
    with listen(args.host, args.port) as door:
        app = make_app(make_reader(args))
        host, port = door.getsockname()[:2]
        print(f"open http://{f'[{host}]' if ':' in host else host}:{port} in a browser; Ctrl-C ends it", flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[door])


def command() -> None:
    """The installed command ``serve-plates``."""
    run_script(main)


if __name__ == "__main__":
    command()

"""Find and read the licence plates of pictures, folders, videos, streams or cameras.

    python main.py                                         # the bundled samples
    python main.py --image photo.jpg folder/ 'more/*.png'  # one line per plate, annotated pictures in outputs/
    python main.py --image folder/ --json plates.jsonl     # one JSON object per picture
    python main.py --video clip.mp4                        # or rtsp://..., or --camera 0

Exit status: 0 all inputs done, 1 some failed, 2 wrong usage or missing weights. The same as the command ``read-plates``
that ``pip install .`` gives; both are platekit/read_plates.py. From Python: platekit/pipeline.py.
"""

from __future__ import annotations

from platekit.errors import run_script
from platekit.read_plates import main

if __name__ == "__main__":
    run_script(main, at_once=True)

"""Find and read the licence plates of pictures, folders, videos, streams or cameras: platekit/read_plates.py.

The same as the command ``read-plates`` that ``pip install .`` gives. From Python: platekit/pipeline.py.
"""

from __future__ import annotations

from platekit.errors import run_script
from platekit.read_plates import main

if __name__ == "__main__":
    run_script(main, at_once=True)

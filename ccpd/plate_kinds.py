"""The layouts and colours of plates, by the standard GA 36-2018. Lengths are in millimetres on the metal."""

from __future__ import annotations

from dataclasses import dataclass, replace

# Top and height of a row's symbols: of the only row, and of both rows of a plate of two.
ONLY_ROW = (25.0, 90.0)
UPPER_ROW, LOWER_ROW = (15.0, 60.0), (90.0, 110.0)
MOTORCYCLE_ROWS = ((10.0, 50.0), (70.0, 60.0))
SMALL_ROW = (20.0, 55.0)  # of a symbol that shares its place with the dot below it


def _blue_cells(behind: int = 2) -> tuple[tuple[float, float], ...]:
    """Left edge and width of seven symbols in one row, with the dot's gap behind the first ``behind`` of them."""
    return tuple((15.5 + 57.0 * i + 22.0 * (i >= behind), 45.0) for i in range(7))


_DOUBLE_CELLS = ((110.0, 80.0), (250.0, 80.0)) + tuple((27.0 + 80.0 * i, 65.0) for i in range(5))
_MOTORCYCLE_CELLS = ((57.5, 35.0), (127.5, 35.0)) + tuple((15.0 + 40.0 * i, 30.0) for i in range(5))
_POLICE_CELLS = ((15.5, 45.0), (67.5, 45.0), (120.0, 36.0)) + tuple((166.5 + 53.25 * i, 45.0) for i in range(5))
_GREEN_CELLS = ((15.5, 45.0), (69.5, 43.0)) + tuple((161.5 + 52.0 * i, 43.0) for i in range(6))


@dataclass(frozen=True)
class PlateKind:
    """One kind of plate. Colours are (hue 0..180, saturation, value) ranges as in OpenCV's HSV."""

    name: str
    width_mm: float
    cells: tuple[tuple[float, float], ...]  # left edge and width of each symbol
    dot_mm: float  # x of the dot's centre; on green plates of the emblem's
    colour: str  # of the ground
    hue: tuple[int, int]
    saturation: tuple[int, int]
    value: tuple[int, int]
    dark_text: bool
    height_mm: float = 140.0
    upper: int = 0  # symbols in the upper row of a plate of two rows
    rows: tuple[tuple[float, float], tuple[float, float]] = (UPPER_ROW, LOWER_ROW)  # of a plate of two rows
    bolts: float = 0.25  # share of the width between either end and the screws next to it
    small: int = -1  # which symbol is small, above the dot; -1: none
    typeface: str = "140_"  # what the file names of its glyphs begin with
    dot_width: float = 10.0

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height."""
        return self.width_mm, self.height_mm

    @property
    def symbols(self) -> int:
        """How many symbols the plate carries."""
        return len(self.cells)

    def with_dot_behind(self, behind: int) -> PlateKind:
        """The same plate, of one row and seven symbols, with its dot behind so many of them (1 to 6)."""
        cells = _blue_cells(behind)
        return replace(self, cells=cells, dot_mm=sum(cells[behind - 1]) + 17.0)

    @property
    def dot_y_mm(self) -> float:
        """Where the dot is: beside the middle of the symbols before it, or under the small one."""
        if self.small >= 0:
            return (sum(SMALL_ROW) + sum(ONLY_ROW)) / 2
        return self.rows[0][0] + self.rows[0][1] / 2 if self.upper else self.height_mm / 2

    @property
    def foot_mm(self) -> float:
        """What is free below the symbols."""
        return self.height_mm - sum(self.row(len(self.cells) - 1))

    def row(self, index: int) -> tuple[float, float]:
        """Top and height of a symbol."""
        if self.upper:
            return self.rows[index >= self.upper]
        return SMALL_ROW if index == self.small else ONLY_ROW


_COLOURS = {colour[0]: colour for colour in (  # name, hue, saturation, value, and whether the symbols are dark
    ("blue", (103, 121), (150, 255), (90, 250), False),
    ("yellow", (17, 27), (110, 250), (110, 250), True),
    ("white", (0, 180), (0, 25), (165, 250), True),
    ("black", (0, 180), (0, 70), (12, 60), False),
    ("green", (50, 80), (70, 220), (110, 235), True),
)}


def _double(name: str, colour: str) -> PlateKind:
    """A plate of two rows as trucks have it."""
    return PlateKind(name, 440.0, _DOUBLE_CELLS, 220.0, *_COLOURS[colour], height_mm=220.0, upper=2, bolts=0.205,
                      typeface="220_", dot_width=11.5)


def _motorcycle(name: str, colour: str) -> PlateKind:
    """A motorcycle's plate."""
    return PlateKind(name, 220.0, _MOTORCYCLE_CELLS, 110.0, *_COLOURS[colour], height_mm=140.0, upper=2,
                     rows=MOTORCYCLE_ROWS, bolts=0.205)


KINDS: dict[str, PlateKind] = {
    kind.name: kind
    for kind in (
        *(PlateKind(name, 440.0, _blue_cells(), 134.5, *_COLOURS[name], dot_width=14.5 if name == "white" else 10.0)
          for name in ("blue", "yellow", "white", "black")),
        _double("yellow_double", "yellow"),
        PlateKind("green", 480.0, _GREEN_CELLS, 137.0, *_COLOURS["green"], bolts=0.267,
                  typeface="green_"),
        _motorcycle("motorcycle", "yellow"),
        _motorcycle("moped", "blue"),
    )
}

# Of the armed forces: their ordinary plates, those of two rows, and the armed police's. File names as CCPD's cannot
# tell their numbers, so that no subset has them.
FORCES = {
    kind.name: kind
    for kind in (KINDS["white"], _double("white_double", "white"),
                 replace(KINDS["white"], name="white_police", cells=_POLICE_CELLS, dot_mm=138.0, small=2))
}

ALL_KINDS = {**KINDS, **FORCES}

"""Persistent-grid kernels: how a layer is cut over all multiprocessors, the kernels' constants, and the shipped cuts.

The formulas repeat those of grid_forward.cu and grid_backward.cu, which assert that the two agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from impls.cuda.runtime import BFLOAT16, FLOAT16, TENSORFLOAT32, Kernel, Refused, Storage
from impls.cuda.select.model import Estimate, data_scale, estimate
from impls.cuda.select.steps import affordable

GROUP_WORDS = 16  # of k: what a lane reads and multiplies at once


@dataclass(frozen=True, slots=True)
class Spread:
    """A batch and a hidden size over the blocks of one launch.

    blocks     of one direction
    rounds     parts of the batch that run one after the other
    columns    of the batch that a block runs in one phase
    exchanged  shape of the buffers through which the blocks exchange, of 32-bit words
    """

    blocks: int
    rounds: int
    columns: int
    exchanged: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GridShape:
    """A cut of grid_forward.cu, or of grid_backward.cu.

    groups    of 16 words of k that one warp multiplies by; with `warps` they limit the hidden size (`hidden`)
    units     of h that a block computes: a multiple of 4 forward, of 16 backward
    tiles     groups of 8 columns of the batch in one phase of a block
    phases    parts of a block's columns that take turns, so that one part's exchange hides behind another's products
    copies    groups of blocks, each with all of W_hh and a part of the batch; no constant of the kernel
    warps     that share k
    resident  groups of weights a warp keeps in registers, all if None; the rest lies in shared memory
    at_once   groups of h a warp reads at once, all if None
    buffers   for partial sums: with 1 a phase needs a second barrier
    """

    design: ClassVar = "grid"
    storage: Storage
    groups: int
    units: int
    tiles: int = 1
    phases: int = 1
    copies: int = 1
    warps: int = 8
    resident: int | None = None
    at_once: int | None = None
    buffers: int = 2
    backward: bool = False

    def __post_init__(self) -> None:
        multiple, at_once = 16 if self.backward else 4, self.at_once or self.groups
        if self.units % multiple or self.groups % at_once or self.buffers not in (1, 2):
            raise Refused(f"{self.units} units and {self.groups} groups cannot be cut so: {self.words()}")

    @property
    def hidden(self) -> int:
        """The largest hidden size."""
        return self.warps * self.groups * GROUP_WORDS * self.storage.per_word // (4 if self.backward else 1)

    @property
    def columns(self) -> int:
        """Of the batch, in one round of a launch."""
        return 8 * self.tiles * self.phases * self.copies

    def blocks(self, hidden: int) -> int:
        """Of one direction; all have to be resident at once."""
        return -(-hidden // self.units) * self.copies

    def spread(self, hidden: int, batch: int) -> Spread:
        rounds = -(-batch // self.columns)
        columns = -(-batch // (rounds * self.copies * self.phases))
        words = self.warps * self.groups, 8 * self.tiles, GROUP_WORDS
        return Spread(self.blocks(hidden), rounds, columns, (rounds, 2, self.copies, self.phases, *words))

    def kernel(self) -> Kernel:
        phase = "backward" if self.backward else "forward"
        rows = self.units // (16 if self.backward else 4)  # tiles of 16 rows of weights
        resident = self.groups if self.resident is None else self.resident
        tail = self.warps * (self.groups - resident) * rows * 1024
        sums = rows * self.tiles * 512  # of a warp
        state = 2048 if self.backward else 256  # of a row tile and 8 columns
        shared_bytes = affordable(tail + self.buffers * self.warps * sums + self.phases * rows * self.tiles * state)
        sizes = {
            "DEPTH": self.groups, "WARPS": self.warps, "UNITS": self.units, "TILES": self.tiles, "PHASES": self.phases,
            "RESIDENT": resident, "AT_ONCE": self.at_once or self.groups, "BUFFERS": self.buffers,
        }  # fmt: skip
        defines = (("STORAGE", self.storage.name), *((name, str(value)) for name, value in sizes.items()))
        return Kernel(f"grid_{phase}.cu", f"lstm_grid_{phase}", defines, 32 * self.warps, shared_bytes, cooperative=True)

    def estimate(self, hidden: int, batch: int) -> Estimate:
        """Of a step of a batch of one direction. Backward, no cluster shares the gate gradients (cluster = 1)."""
        spread = self.spread(hidden, batch)
        tiles = -(-spread.columns // 8)
        sizes = {"hidden": hidden, "units": self.units, "tiles": tiles, "columns": spread.columns, "phases": self.phases}
        family, more = ("grid_backward", {"cluster": 1}) if self.backward else ("grid_forward", {})
        found = estimate(family, scale=data_scale(self.storage), **sizes, **more)
        return found.times(spread.rounds)

    def words(self) -> str:
        """As in the plan's provenance: hidden, units a block, columns, copies, phases."""
        return f"{self.storage.name} H{self.hidden} U{self.units} N{8 * self.tiles} G{self.copies} P{self.phases}"


# The cuts of the persistent-grid kernels that are compiled and checked for spills, the smaller hidden sizes first.

GridRow = tuple[int, int, int, int, int, int, int, int]


def _grid_shapes(storage: Storage, backward: bool, *rows: GridRow) -> tuple[GridShape, ...]:
    """Of rows (groups, units, tiles, phases, copies, groups in registers, groups at once, buffers)."""
    names = ("groups", "units", "tiles", "phases", "copies", "resident", "at_once", "buffers")
    return tuple(GridShape(storage=storage, backward=backward, **dict(zip(names, row, strict=True))) for row in rows)


GRID_16_BIT: tuple[GridRow, ...] = (
    (2, 8, 1, 1, 2, 2, 2, 2),
    (2, 16, 1, 1, 4, 2, 2, 2),
    (2, 16, 4, 1, 4, 2, 1, 2),
    (3, 8, 1, 1, 1, 3, 3, 2),
    (3, 12, 1, 1, 2, 3, 3, 2),
    (3, 12, 4, 1, 2, 3, 1, 2),
    (4, 8, 1, 1, 1, 4, 4, 2),
    (4, 16, 1, 1, 2, 4, 4, 2),
    (4, 32, 1, 1, 4, 2, 2, 2),
    (4, 16, 4, 1, 2, 2, 1, 1),
    (5, 12, 1, 1, 1, 5, 5, 2),
    (5, 20, 1, 1, 2, 4, 1, 1),
    (6, 12, 1, 1, 1, 6, 6, 2),
    (6, 16, 1, 1, 1, 4, 6, 2),
    (6, 12, 2, 1, 1, 5, 3, 2),
    (7, 16, 1, 1, 1, 4, 7, 2),
    (8, 16, 1, 1, 1, 4, 8, 2),
    (8, 16, 1, 2, 1, 3, 4, 1),
    (8, 20, 1, 1, 1, 3, 4, 1),
)
GRID_BACKWARD_16_BIT: tuple[GridRow, ...] = (
    (8, 16, 1, 1, 4, 8, 8, 2),
    (8, 16, 2, 1, 4, 8, 4, 2),
    (12, 16, 1, 1, 2, 12, 6, 2),
    (12, 16, 2, 1, 2, 8, 3, 2),
    (16, 16, 1, 1, 2, 10, 16, 2),
    (16, 16, 2, 1, 2, 8, 4, 2),
    (24, 16, 1, 1, 1, 8, 12, 2),
    (24, 16, 2, 1, 1, 8, 2, 2),
    (32, 16, 1, 1, 1, 8, 4, 2),
    (32, 16, 2, 1, 1, 8, 2, 2),
)
GRID_TENSORFLOAT32: tuple[GridRow, ...] = (
    (4, 8, 1, 1, 2, 4, 4, 2),
    (4, 16, 1, 1, 4, 4, 4, 2),
    (6, 12, 1, 1, 2, 5, 6, 2),
    (8, 8, 1, 1, 1, 8, 8, 2),
    (8, 16, 1, 1, 2, 4, 4, 2),
    (12, 12, 1, 1, 1, 5, 4, 1),
)
GRID_BACKWARD_TENSORFLOAT32: tuple[GridRow, ...] = (
    (16, 16, 1, 1, 4, 10, 8, 2),
    (24, 16, 1, 1, 2, 8, 8, 2),
    (32, 16, 1, 1, 2, 8, 8, 2),
)
GRID = {
    BFLOAT16: _grid_shapes(BFLOAT16, False, *GRID_16_BIT),
    FLOAT16: _grid_shapes(FLOAT16, False, *GRID_16_BIT),
    TENSORFLOAT32: _grid_shapes(TENSORFLOAT32, False, *GRID_TENSORFLOAT32),
}
GRID_BACKWARD = {
    BFLOAT16: _grid_shapes(BFLOAT16, True, *GRID_BACKWARD_16_BIT),
    FLOAT16: _grid_shapes(FLOAT16, True, *GRID_BACKWARD_16_BIT),
    TENSORFLOAT32: _grid_shapes(TENSORFLOAT32, True, *GRID_BACKWARD_TENSORFLOAT32),
}

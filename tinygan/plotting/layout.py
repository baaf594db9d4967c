"""Where the nodes of a graph are drawn: in layers from top to bottom, with the nodes of a group in one frame.

Groups are laid out by themselves, and then placed as if each were one node (Sugiyama, Tagawa, Toda 1981, "Methods for visual
understanding of hierarchical system structures"): a rank for each, below all that it depends on; an order in each rank that
keeps connected ones near each other; then places that pull them straight. An edge over several ranks gets a free lane in
each.
"""
from __future__ import annotations

__all__ = ["Box", "Frame", "Layout", "arrange"]

from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise
from typing import NamedTuple

GAP_X, GAP_Y = 18.0, 26.0
"""Between boxes, in pixels."""
_FRAME, _TITLE = 12.0, 20.0  # inside a frame: the margin, and the height of its title
_LANE = 14.0  # the width that a passing edge takes
_SWEEPS = 8
_LETTER = 6.9  # the width of a letter of the title's size, on average

Point = tuple[float, float]


class Box(NamedTuple):
    """A node to be drawn. lines: the first is its title. parents: the keys of the boxes before it. group: the title of its
    frame, "" for none. call: boxes of one group with the same `call` share a frame. kind: "op", "parameter", "input" or
    "constant". cut: parents to which no gradient flows from here."""

    key: int
    lines: tuple[str, ...]
    parents: tuple[int, ...]
    group: str = ""
    call: Hashable = None
    kind: str = "op"
    cut: frozenset[int] = frozenset()

    @property
    def size(self) -> Point:
        """Width and height in pixels."""
        return 16 + _LETTER * max(map(len, self.lines), default=1), 10 + 16.0 * len(self.lines)


class Frame(NamedTuple):
    """The rectangle around the boxes of a group: its title, left, top, width and height."""

    title: str
    x: float
    y: float
    width: float
    height: float


class Layout(NamedTuple):
    """centers: the centre of every box, by key. routes: for every edge (parent, child) the points that it goes through. The
    picture reaches from (0, 0) to `size`."""

    centers: dict[int, Point]
    frames: list[Frame]
    routes: dict[tuple[int, int], list[Point]]
    size: Point


class _Block:
    """Something to be placed in a rank: a group of boxes, a single box, or the lane of an edge (neither)."""

    def __init__(self, title: str = "", size: Point = (_LANE, 0.0)) -> None:
        self.title = title
        self.boxes: list[Box] = []
        self.inside: dict[int, Point] = {}  # centres of the boxes, from the block's own upper left corner
        self.lanes: dict[tuple[int, int], list[Point]] = {}  # the points inside, of an edge that leaves or enters
        self.width, self.height = size
        self.rank = 0
        self.center = 0.0
        self.before: list[_Block] = []
        self.after: list[_Block] = []

    def join(self, below: _Block) -> None:
        """Note that an edge leads from here to a block below."""
        if self not in below.before:
            below.before.append(self)
            self.after.append(below)

    def arrange(self, leaving: set[int]) -> None:
        """Lay out the boxes inside. leaving: the boxes that others outside depend on. Their edges get lanes to the lower
        side, and edges from outside get lanes from the upper one."""
        ranks = self._ranks()
        rows: list[list[_Block]] = [[] for _ in range(max(ranks.values()) + 1)]
        block_of: dict[int, _Block] = {}
        for box in self.boxes:
            block = block_of[box.key] = _Block(size=box.size)
            rows[ranks[box.key]].append(block)
        lanes: dict[tuple[int, int], list[_Block]] = {}
        for box in self.boxes:
            for parent in dict.fromkeys(box.parents):
                if parent in block_of:
                    lanes[parent, box.key] = self._lane(block_of[parent], block_of[box.key], ranks[parent] + 1,
                                                        ranks[box.key], rows)
                elif ranks[box.key]:
                    lanes[parent, box.key] = self._lane(None, block_of[box.key], 0, ranks[box.key], rows)
            if box.key in leaving and ranks[box.key] + 1 < len(rows):
                lanes[box.key, box.key] = self._lane(block_of[box.key], None, ranks[box.key] + 1, len(rows), rows)
        _order(rows)
        _straighten(rows)
        self._place(rows, block_of, lanes)

    def _ranks(self) -> dict[int, int]:
        keys = {box.key for box in self.boxes}
        ranks: dict[int, int] = {}
        for box in self.boxes:  # (parents come first)
            ranks[box.key] = max([ranks[p] + 1 for p in box.parents if p in ranks], default=0)
        for box in reversed(self.boxes):  # what nothing leads to stands right above its first use
            if not keys & set(box.parents):
                uses = [ranks[other.key] for other in self.boxes if box.key in other.parents]
                ranks[box.key] = min(uses, default=ranks[box.key] + 1) - 1
        lowest = min(ranks.values())
        return {key: rank - lowest for key, rank in ranks.items()}

    @staticmethod
    def _lane(top: _Block | None, bottom: _Block | None, first: int, end: int, rows: list[list[_Block]]) -> list[_Block]:
        """New lanes in the rows from `first` to before `end`, between two blocks."""
        lanes = [_Block() for _ in range(first, end)]
        for row, lane in zip(rows[first:end], lanes, strict=True):
            row.append(lane)
        chain = [block for block in (top, *lanes, bottom) if block is not None]
        for one, other in pairwise(chain):
            one.join(other)
        return lanes

    def _place(self, rows: list[list[_Block]], block_of: dict[int, _Block],
               lanes: dict[tuple[int, int], list[_Block]]) -> None:
        margin, top = (_FRAME, _TITLE) if self.title else (0.0, 0.0)
        blocks = [block for row in rows for block in row]
        left = min(block.center - block.width / 2 for block in blocks)
        across = max(block.center + block.width / 2 for block in blocks) - left
        self.width = max(across, _LETTER * len(self.title)) + 2 * margin
        shift = (self.width - across) / 2 - left
        y, spans = margin + top, {}
        for row in rows:
            height = max(block.height for block in row)
            spans.update({id(block): (y, y + height) for block in row})
            y += height + GAP_Y
        self.height = y - GAP_Y + margin
        for key, block in block_of.items():
            low, high = spans[id(block)]
            self.inside[key] = block.center + shift, (low + high) / 2
        self.lanes = {edge: [(lane.center + shift, side) for lane in path for side in spans[id(lane)]]
                      for edge, path in lanes.items()}


def arrange(boxes: Sequence[Box]) -> Layout:
    """Lay out a graph without cycles. boxes: parents before their children."""
    blocks, of = _blocks(boxes)
    leaving = {p for box in boxes for p in box.parents if p in of and of[p] is not of[box.key]}
    for block in blocks:
        block.arrange(leaving)
    ranks: list[list[_Block]] = [[] for _ in range(max((block.rank for block in blocks), default=-1) + 1)]
    for block in blocks:
        ranks[block.rank].append(block)
    lanes = _lanes(boxes, of, ranks)
    _order(ranks)
    _straighten(ranks)
    return _placed(boxes, blocks, of, ranks, lanes)


def _blocks(boxes: Sequence[Box]) -> tuple[list[_Block], dict[int, _Block]]:
    """The groups in the order of the computation, with their ranks, and the group of each box."""
    found: dict[Hashable, _Block] = {}
    of: dict[int, _Block] = {}
    for box in boxes:
        name: Hashable = (box.group, box.call) if box.group else ("", box.key)
        block = of[box.key] = found.setdefault(name, _Block(box.group))
        block.boxes.append(box)
    blocks = list(found.values())
    for block in blocks:
        above = [of[p] for box in block.boxes for p in box.parents if p in of and of[p] is not block]
        block.rank = max([other.rank + 1 for other in above], default=0)
    for block in reversed(blocks):  # a source stands right above its first use
        below = [of[box.key] for box in boxes if of[box.key] is not block and any(of.get(p) is block for p in box.parents)]
        if below and not any(of.get(p) not in (None, block) for box in block.boxes for p in box.parents):
            block.rank = min(other.rank for other in below) - 1
    return blocks, of


def _lanes(boxes: Sequence[Box], of: dict[int, _Block], ranks: list[list[_Block]]) -> dict[tuple[int, int], list[_Block]]:
    """For each edge between two groups, the lanes through the ranks between them. Connects all neighbours."""
    lanes: dict[tuple[int, int], list[_Block]] = {}
    shared: dict[tuple[int, int], _Block] = {}  # edges from one box go down together
    for box in boxes:
        for parent in box.parents:
            if parent not in of or of[parent] is of[box.key]:
                continue
            path = [of[parent]]
            for rank in range(of[parent].rank + 1, of[box.key].rank):
                lane = shared.get((parent, rank))
                if lane is None:
                    lane = shared[parent, rank] = _Block()
                    lane.rank = rank
                    ranks[rank].append(lane)
                path.append(lane)
            path.append(of[box.key])
            for one, other in pairwise(path):
                one.join(other)
            lanes[parent, box.key] = path[1:-1]
    return lanes


def _order(ranks: list[list[_Block]]) -> None:
    """Order each rank by the middle of what its blocks are connected to, downwards and upwards in turn."""
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for rank in ranks if down else ranks[::-1]:
            rank.sort(key=_middle(down))
            for i, block in enumerate(rank):
                block.center = (i + 0.5) / len(rank)


def _middle(down: bool) -> Callable[[_Block], float]:
    return lambda block: _mean([other.center for other in (block.before if down else block.after)], block.center)


def _straighten(ranks: list[list[_Block]]) -> None:
    """Place the blocks of each rank from left to right, near the middle of what they are connected to."""
    for rank in ranks:
        x = 0.0
        for block in rank:
            block.center = x + block.width / 2
            x += block.width + GAP_X
        for block in rank:
            block.center -= x / 2
    for sweep in range(2 * _SWEEPS):
        down = sweep % 2 == 0
        for rank in ranks if down else ranks[::-1]:
            _spread(rank, [_middle(down)(block) for block in rank])


def _spread(rank: list[_Block], wanted: list[float]) -> None:
    """Centres as near to the wanted ones as the widths allow (in the sense of least squares: neighbours that would overlap
    are joined into a cluster around their mean)."""
    clusters: list[tuple[float, float, list[_Block]]] = []  # (left edge, width, blocks)
    sums: list[tuple[float, int]] = []  # of the left edges that the cluster's blocks want
    for block, center in zip(rank, wanted, strict=True):
        left, width, members, total, count = center - block.width / 2, block.width, [block], center - block.width / 2, 1
        while clusters and clusters[-1][0] + clusters[-1][1] + GAP_X > left:
            _, before, others = clusters.pop()
            sum_, n = sums.pop()
            total, count = sum_ + total - count * (before + GAP_X), n + count
            width, members, left = before + GAP_X + width, others + members, total / count
        clusters.append((left, width, members))
        sums.append((total, count))
    for left, _, members in clusters:
        for block in members:
            block.center = left + block.width / 2
            left += block.width + GAP_X


def _placed(boxes: Sequence[Box], blocks: list[_Block], of: dict[int, _Block], ranks: list[list[_Block]],
            lanes: dict[tuple[int, int], list[_Block]]) -> Layout:
    left = min((block.center - block.width / 2 for rank in ranks for block in rank), default=0.0) - GAP_X
    tops, y = [], GAP_X
    for rank in ranks:
        tops.append(y)
        y += max((block.height for block in rank), default=0.0) + 1.4 * GAP_Y
    bottoms = [top + max((block.height for block in rank), default=0.0) for top, rank in zip(tops, ranks, strict=True)]
    right = max((block.center + block.width / 2 for rank in ranks for block in rank), default=0.0) - left + GAP_X
    frames, centers, corners = [], {}, {}
    for block in blocks:
        corner = (block.center - block.width / 2 - left,
                  tops[block.rank] + (bottoms[block.rank] - tops[block.rank] - block.height) / 2)
        corners[id(block)] = corner
        if block.title:
            frames.append(Frame(block.title, *corner, block.width, block.height))
        centers.update({key: (corner[0] + x, corner[1] + y) for key, (x, y) in block.inside.items()})
    sizes = {box.key: box.size for box in boxes}
    routes = {}
    for box in boxes:
        for parent in dict.fromkeys(box.parents):
            if parent in centers:
                path = [(centers[parent][0], centers[parent][1] + sizes[parent][1] / 2)]
                if of[parent] is not of[box.key]:
                    path += _moved(of[parent].lanes.get((parent, parent), []), corners[id(of[parent])])
                    for lane in lanes.get((parent, box.key), []):
                        path += [(lane.center - left, tops[lane.rank] - GAP_Y / 2), (lane.center - left, bottoms[lane.rank])]
                path += _moved(of[box.key].lanes.get((parent, box.key), []), corners[id(of[box.key])])
                path.append((centers[box.key][0], centers[box.key][1] - box.size[1] / 2))
                routes[parent, box.key] = path
    return Layout(centers, frames, routes, (right, y - 1.4 * GAP_Y + GAP_X))


def _moved(points: list[Point], corner: Point) -> list[Point]:
    return [(x + corner[0], y + corner[1]) for x, y in points]


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default

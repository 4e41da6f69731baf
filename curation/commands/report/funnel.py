"""Where every line and label of the funnel goes; the template only writes them down, escaped, as SVG."""

from collections.abc import Sequence
from dataclasses import dataclass

from curation.commands.report.flow import FinishedStage
from curation.dataset.stages import PACK

FLOW_HEIGHT, FLOW_TOP, FLOW_LEFT = 190.0, 60.0, 4.0
NODE_WIDTH, LOSS_WIDTH, PASS_WIDTH, LABEL_WIDTH = 9.0, 118.0, 74.0, 60.0
BRANCH_DROP, BRANCH_SHARE = 24.0, 0.66
MIN_THICKNESS = 1.5
SEAM = 0.6
"""By how much one stretch of the flow overlaps the next, so that no hairline shows between them."""


@dataclass(frozen=True)
class Node:
    """A stage, or what is left at the end: an upright bar as high as its number of samples."""

    x: float
    height: float
    label: str
    count: int
    is_end: bool = False


@dataclass(frozen=True)
class Flow:
    """Samples that go on from `x` to `x + width`."""

    x: float
    width: float
    height: float


@dataclass(frozen=True)
class Loss:
    """Samples that one stage or filter turned away: a ribbon that leaves the flow, and its label."""

    path: str
    cap_x: float
    cap_y: float
    cap_height: float
    label_x: float
    label_y: float
    label: str
    count: int
    fraction: float
    """Share of what the stage or filter was given, 0..1."""


@dataclass(frozen=True)
class Funnel:
    """The whole funnel, in SVG user units."""

    width: float
    height: float
    top: float
    node_width: float
    nodes: tuple[Node, ...]
    flows: tuple[Flow, ...]
    losses: tuple[Loss, ...]


def lay_out_funnel(stages: Sequence[FinishedStage], filter_names: Sequence[str]) -> Funnel:
    """Return the funnel of consecutive stages; every thickness is proportional to a number of samples."""
    unit = FLOW_HEIGHT / max([stage.manifest.num_seen for stage in stages] + [1])
    nodes: list[Node] = []
    flows: list[Flow] = []
    losses: list[Loss] = []
    x = FLOW_LEFT
    for stage in stages:
        left = stage.manifest.num_seen
        nodes.append(Node(x, _thick(left, unit), stage.name, left))
        x += NODE_WIDTH
        for by, reasons in stage.losses(filter_names):
            lost = sum(reasons.values())
            losses.append(_loss(x, left, lost, unit, by))
            left -= lost
            flows.append(Flow(x, LOSS_WIDTH + SEAM, _thick(left, unit)))
            x += LOSS_WIDTH
        flows.append(Flow(x, PASS_WIDTH, _thick(left, unit)))
        x += PASS_WIDTH
    num_kept = stages[-1].manifest.num_kept
    nodes.append(Node(x, _thick(num_kept, unit), "packed" if stages[-1].name == PACK.name else "kept", num_kept, True))
    height = max([loss.label_y + 24 for loss in losses] + [FLOW_TOP + FLOW_HEIGHT + 8])
    return Funnel(x + LABEL_WIDTH, height, FLOW_TOP, NODE_WIDTH, tuple(nodes), tuple(flows), tuple(losses))


def _loss(x: float, left: int, lost: int, unit: float, by: str) -> Loss:
    top = FLOW_TOP + unit * (left - lost)
    bottom = top + _thick(lost, unit)
    end, drop, middle = x + LOSS_WIDTH * BRANCH_SHARE, BRANCH_DROP, x + LOSS_WIDTH * BRANCH_SHARE / 2
    path = (
        f"M{x:.1f},{top:.2f} C{middle:.1f},{top:.2f} {middle:.1f},{top + drop:.2f} {end:.1f},{top + drop:.2f} "
        f"V{bottom + drop:.2f} C{middle:.1f},{bottom + drop:.2f} {middle:.1f},{bottom:.2f} {x:.1f},{bottom:.2f} Z"
    )
    label_y = bottom + drop + 17
    return Loss(path, end, top + drop, bottom - top, x + 8, label_y, by, lost, lost / left if left > 0 else 0.0)


def _thick(count: int, unit: float) -> float:
    return max(unit * count, MIN_THICKNESS) if count > 0 else 0.0

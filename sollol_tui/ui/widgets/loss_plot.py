"""Curves of the loss over steps, of one job or two. The one place that knows who draws them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from textual_plotext import PlotextPlot

from sollol_tui.model.metrics import thinned

_TICKS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """`points` are (step, loss), in the order of steps."""

    label: str
    points: tuple[tuple[int, float], ...]


class LossPlot(PlotextPlot):
    """Draws what `show` hands in; the first curve is the one that matters."""

    def show(self, curves: Sequence[Curve]) -> None:
        self.plt.clear_data()
        self.plt.xlabel("step")
        width = max(20, self.size.width)
        steps_of_all = [step for curve in curves for step, _ in curve.points]
        if steps_of_all:
            first, last = min(steps_of_all), max(steps_of_all)
            ticks: list[float] = sorted(
                {first + (last - first) * at // _TICKS for at in range(_TICKS + 1)}
            )
            self.plt.xticks(ticks, [f"{tick:,}" for tick in ticks])
        for curve in curves:
            if curve.points:
                steps = thinned([step for step, _ in curve.points], 2 * width)
                losses = thinned([loss for _, loss in curve.points], 2 * width)
                self.plt.plot(steps, losses, label=curve.label)
        self.refresh()

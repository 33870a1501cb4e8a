"""The part of the page that shows one head: created once, and updated with each result."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from densekit.app.demo.canvas import Place
from densekit.app.demo.view import Panel, View

if TYPE_CHECKING:
    from collections.abc import Mapping

    from densekit.app.demo.runner import Outcome

DIGITS = 2
"""Of the sliders of scores."""


class Part:
    """The components of one head; which of them are seen depends on its result.

    Args:
        head: Its name.
    """

    def __init__(self, head: str) -> None:
        import gradio as gr

        def named(what: str) -> str:
            return f"{what}-{head}"

        self.head = head
        with gr.Row(visible=False) as self.controls:
            self.slider: Any = gr.Slider(
                elem_id=named("slider"), step=10**-DIGITS, buttons=[], scale=2
            )
            self.axis: Any = gr.Radio(label="cut", elem_id=named("axis"), scale=3, min_width=320)
            self.index: Any = gr.Slider(
                label="slice", elem_id=named("slice"), step=1, buttons=[], scale=2
            )
        self.note = gr.HTML(elem_id=named("note"), visible=False)
        self.picture = gr.Image(
            label="result",
            elem_id=named("picture"),
            format="png",
            buttons=["download", "fullscreen"],
            interactive=False,
            visible=False,
        )
        self.shares = gr.Label(label="probability", elem_id=named("shares"), visible=False)
        self.rows = gr.Dataframe(
            elem_id=named("rows"), interactive=False, visible=False, max_height=360, buttons=[]
        )
        self.values = gr.JSON(label="values", elem_id=named("values"), visible=False)

    @property
    def shown(self) -> list[Any]:
        """The components of a panel, in the order of `panel`."""
        return [self.note, self.picture, self.shares, self.rows, self.values]

    @property
    def all(self) -> list[Any]:
        """All components, in the order of `opened` and `closed`."""
        return [self.controls, self.slider, self.axis, self.index, *self.shown]

    def connect(self, state: Any) -> None:
        """Draws again whenever a control is moved.

        Args:
            state: Component that holds an `Outcome`, or None.
        """
        quick: Mapping[str, Any] = {
            "show_progress": "hidden",
            "trigger_mode": "always_last",
            "api_visibility": "private",
        }
        controls = [state, self.slider, self.axis, self.index]
        self.slider.input(self.moved, controls, self.shown, **quick)
        self.index.input(self.moved, controls, self.shown, **quick)
        self.axis.input(
            self.turned, [state, self.slider, self.axis], [self.index, *self.shown], **quick
        )

    def closed(self) -> list[Any]:
        """Updates of `all` that show nothing."""
        import gradio as gr

        return [gr.update(visible=False) for _ in self.all]

    def opened(self, view: View) -> list[Any]:
        """Updates of `all` for a new result."""
        import gradio as gr

        slider, canvas = view.slider, view.canvas
        place = Place(0, view.best(0))
        return [
            gr.update(visible=slider is not None or bool(canvas.axes)),
            gr.update(visible=False)
            if slider is None
            else gr.update(
                visible=True,
                label=slider.label,
                minimum=slider.low,
                maximum=slider.high,
                value=round(slider.start, DIGITS),
            ),
            gr.update(
                visible=bool(canvas.axes),
                choices=list(canvas.axes),
                value=canvas.axes[0] if canvas.axes else None,
            ),
            _slices(view, place) if canvas.axes else gr.update(visible=False),
            *panel_updates(view.panel(None, place)),
        ]

    def moved(self, outcome: Outcome | None, value: float, axis: str | None, index: float) -> Any:
        """Updates of `shown` when a slider was moved."""
        import gradio as gr

        view = self._view(outcome)
        if view is None:
            return [gr.skip() for _ in self.shown]
        at = _axis(view, axis)
        last = view.canvas.lengths[at] - 1 if view.canvas.lengths else 0
        return panel_updates(
            view.panel(_moved(view, value), Place(at, max(0, min(int(index) - 1, last))))
        )

    def turned(self, outcome: Outcome | None, value: float, axis: str | None) -> Any:
        """Updates of `index` and `shown` when another axis was chosen."""
        import gradio as gr

        view = self._view(outcome)
        if view is None or not view.canvas.axes:
            return [gr.skip() for _ in range(1 + len(self.shown))]
        at = _axis(view, axis)
        place = Place(at, view.best(at))
        return [_slices(view, place), *panel_updates(view.panel(_moved(view, value), place))]

    def _view(self, outcome: Outcome | None) -> View | None:
        return None if outcome is None else outcome.views.get(self.head)


def panel_updates(panel: Panel) -> list[Any]:
    """Updates of `Part.shown`."""
    import gradio as gr

    rows = panel.rows
    return [
        gr.update(value=html.escape(panel.note), visible=bool(panel.note)),
        gr.update(value=panel.picture, visible=panel.picture is not None),
        gr.update(value=dict(panel.shares) or None, visible=bool(panel.shares)),
        gr.update(visible=False)
        if rows is None
        else gr.update(
            value={"headers": list(rows.header), "data": [list(row) for row in rows.cells]},
            visible=True,
        ),
        gr.update(value=panel.values, visible=panel.values is not None),
    ]


def _moved(view: View, value: float) -> float | None:
    """The value of the slider, None where it started."""
    is_there = view.slider is None or round(value - view.slider.start, DIGITS) == 0
    return None if is_there else value


def _axis(view: View, name: str | None) -> int:
    axes = view.canvas.axes
    return axes.index(name) if name in axes else 0


def _slices(view: View, place: Place) -> Any:
    import gradio as gr

    length = view.canvas.lengths[place.axis]
    label = f"slice of {length}, {view.canvas.axes[place.axis]}"
    return gr.update(
        visible=True, label=label, minimum=1, maximum=max(2, length), value=place.index + 1
    )

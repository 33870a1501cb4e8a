"""The layout of the page, and what happens when a file is dropped."""

from __future__ import annotations

import html
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit._names import readable
from densekit.app.demo.examples import Example
from densekit.app.demo.part import Part

if TYPE_CHECKING:
    from densekit.app.demo.runner import Outcome, Runner

logger = logging.getLogger(__name__)

TITLE = "densekit demo"
DAY = 24 * 3600
"""Seconds after which an upload is deleted while the page goes on."""
STYLE = """
.densekit-message { color: var(--error-text-color); font-weight: 600; white-space: pre-wrap }
footer, #files .label-clear-button { display: none !important }
"""


def theme() -> Any:
    """Fonts and colours of the page; fonts of this machine alone, none is fetched."""
    import gradio as gr

    return gr.themes.Default(
        primary_hue="teal",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )


def build_page(runner: Runner, about: str, examples: Sequence[Example] = ()) -> Any:
    """Lays out the page.

    Args:
        runner: Predicts.
        about: One line on the model.
        examples: Images that are offered.

    Returns:
        `gradio.Blocks`.
    """
    import gradio as gr

    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, DAY)) as page:
        gr.HTML(f"<h1>{TITLE}</h1><p>{html.escape(readable(about))}</p>", elem_id="about")
        state = gr.State(None, delete_callback=_forget)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                first = _dropzone("drop a file here", "source")
                second = _dropzone("compare with", "other", visible=runner.compares)
                _offer(examples, first)
                files = gr.File(
                    label="the result as files",
                    file_count="multiple",
                    interactive=False,
                    visible=False,
                    elem_id="files",
                )
            with gr.Column(scale=5, min_width=320):
                message = gr.HTML(visible=False, elem_id="message")
                parts = _parts(list(runner.heads))
    page.queue(max_size=32, api_open=False, default_concurrency_limit=1)
    with page:
        for part in parts:
            part.connect(state)
        gr.on(
            [first.change, second.change],
            _Show(runner, parts),
            [first, second, state],
            [state, message, second, files, *(each for part in parts for each in part.all)],
            concurrency_id="model",
            trigger_mode="always_last",
            api_visibility="private",
        )
    return page


class _Show:
    """Predicts what was dropped and shows it, or says what is wrong with it.

    Args:
        runner: Predicts.
        parts: One per head.
    """

    def __init__(self, runner: Runner, parts: Sequence[Part]) -> None:
        self.runner, self.parts = runner, parts

    def __call__(
        self, first: list[str] | None, second: list[str] | None, before: Outcome | None
    ) -> list[Any]:
        if before is not None:
            before.remove()
        if not first:
            return self._said("")
        try:
            outcome = self.runner.run(first, second or ())
        except Exception as error:  # what was shown before must not stand beside a new file
            return self._said(said_of(error, Path(first[0]).name))
        return self._shown(outcome)

    def _said(self, text: str) -> list[Any]:
        import gradio as gr

        said = f'<div class="densekit-message" role="alert">{html.escape(readable(text))}</div>'
        return [
            None,
            gr.update(value=said, visible=bool(text)),
            gr.skip(),
            gr.update(value=None, visible=False),
            *(update for part in self.parts for update in part.closed()),
        ]

    def _shown(self, outcome: Outcome) -> list[Any]:
        import gradio as gr

        updates = [
            part.opened(outcome.views[part.head]) if part.head in outcome.views else part.closed()
            for part in self.parts
        ]
        return [
            outcome,
            gr.update(value=f"<p>{html.escape(outcome.about)}</p>", visible=True),
            gr.update(visible=self.runner.compares or outcome.compares),
            gr.update(value=[str(file) for file in outcome.files], visible=bool(outcome.files)),
            *(update for updated in updates for update in updated),
        ]


def said_of(error: Exception, name: str) -> str:
    """What the page says of an error; a defect is also shown on the terminal, in full.

    Args:
        error: Of the prediction.
        name: The file.
    """
    if isinstance(error, ValueError | OSError):
        return str(error)
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return f"{name}: expected an image that fits into memory, got: {error}"
    logger.error("%s", name, exc_info=error)
    kind = type(error).__name__
    return f"{name}: expected a result, got {kind}: {error}; the terminal says where"


def _parts(heads: Sequence[str]) -> list[Part]:
    """A part per head, each in a tab of its own if there are several."""
    import gradio as gr

    if len(heads) == 1:
        return [Part(heads[0])]
    parts = []
    with gr.Tabs():
        for head in heads:
            with gr.Tab(head):
                parts.append(Part(head))
    return parts


def _dropzone(label: str, name: str, *, visible: bool = True) -> Any:
    import gradio as gr

    return gr.File(label=label, file_count="multiple", elem_id=name, height=150, visible=visible)


def _offer(examples: Sequence[Example], target: Any) -> None:
    """Shows the examples; one that is clicked is put where files are dropped."""
    if not examples:
        return
    import gradio as gr

    gallery = gr.Gallery(
        [(example.picture, example.name) for example in examples],
        label="examples",
        columns=3,
        height=260,
        allow_preview=False,
        interactive=False,
        buttons=[],
        elem_id="examples",
    )

    def chosen(event: Any) -> list[str]:
        return [str(file) for file in examples[event.index].files]

    chosen.__annotations__["event"] = gr.SelectData  # gradio looks for this type
    gallery.select(chosen, None, target, show_progress="hidden", api_visibility="private")


def _forget(outcome: Outcome | None) -> None:
    if outcome is not None:
        outcome.remove()

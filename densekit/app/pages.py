"""HTML pages in one file: templates, and pictures as text that a page holds."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image, features

from densekit._files import finite, write_text

TEMPLATES = Path(__file__).parent / "templates"
ESCAPES = str.maketrans({sign: f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"})
"""Characters that could end a script; JSON may write them as numbers."""


def write_page(file: str | Path, text: str) -> None:
    """Writes a page; half of a surrogate pair, which no encoding has, becomes a question mark."""
    write_text(file, text.encode("utf-8", "replace").decode("utf-8"))


def rendered(
    template: str, filters: Mapping[str, Callable[..., Any]] | None = None, **values: Any
) -> str:
    """A template of `templates/` with values, which are escaped.

    Args:
        template: File name.
        filters: Functions that the template may call on values, by name.
        **values: Values by name.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(filters or {})
    return environment.from_string(asset(template)).render(values)


def asset(name: str) -> str:
    """The text of a file of `templates/`."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def script_data(values: Any) -> str:
    """Plain values as JSON that may stand in a script element, whatever text they hold."""
    text = json.dumps(finite(values), separators=(",", ":"))
    return text.translate(ESCAPES)


def source_hash(text: str) -> str:
    """The source expression of a Content-Security-Policy that allows one inline text."""
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return f"'sha256-{digest}'"


def image_uri(image: Image.Image, quality: int) -> str:
    """A picture as a data URI: WebP, or JPEG where Pillow lacks it.

    Args:
        image: An RGB image.
        quality: 1 to 100.
    """
    form = "WEBP" if features.check("webp") else "JPEG"
    stream = io.BytesIO()
    image.save(stream, form, quality=quality)
    return data_uri(stream.getvalue(), form.lower())


def data_uri(content: bytes, form: str) -> str:
    """An image file as a data URI.

    Args:
        content: Of the file.
        form: "png", "jpeg" or "webp".
    """
    return f"data:image/{form};base64,{base64.b64encode(content).decode('ascii')}"

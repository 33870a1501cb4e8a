"""densekit's own heads keep the contract that plug-ins are held to, through the command."""

from __future__ import annotations

import pytest

from densekit.app.cli import main
from densekit.app.commands import check_head
from densekit.app.errors import UsageError

HEADS = (
    *("faster_rcnn_small", "unet", "deeplabv3plus", "fcn", "upernet"),
    *("classification", "embedding"),
)
"""One of each kind: two stages, ours, dilated, with an auxiliary loss, smp's; whole images."""


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.parametrize("head", HEADS)
def test_contract(head: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["check-head", f"head={head}"])
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert "two processes" in printed


def test_failure_is_printed_with_the_contract(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from densekit.testing import head_checks as checks

    def fails(subject: object) -> None:
        raise AssertionError("found [brackets]")

    broken = checks.Check("broken", "what is asked", fails)
    monkeypatch.setattr(checks, "CHECKS", (broken,))
    assert check_head.main(["head=fcn"]) == 1
    printed = capsys.readouterr().out
    for words in ("FAILED", "what is asked", "found [brackets]"):
        assert words in printed


def test_a_head_is_asked_for() -> None:
    with pytest.raises(UsageError, match="head=NAME"):
        check_head.main([])


def test_local_head_needs_trust(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-head", "~head", "+heads.mine._target_=os.path.Path"]) == 2
    assert "trust=[os]" in capsys.readouterr().err

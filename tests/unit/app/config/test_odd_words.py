"""Hundreds of odd words: each is taken, or refused by an error of ours, never by a traceback."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from densekit.app.config.compose import apply_values, compose
from densekit.app.config.overrides import expand, parse
from densekit.app.errors import UsageError
from densekit.app.options.shared import CHECKPOINT, RUN_NAME, TRUST
from densekit.app.options.table import Option, split_options, whole

KEYS = """
    seed optimizer.lr optimizer data head heads heads.detection heads.detection.num_classes vars
    vars.x +vars.x ~callbacks.curves ~seed ++trainer.x trainer trainer.max_epochs run_name
    paths.data checkpoint trust resize inferer hydra hydra.run.dir hydra/sweeper head@heads.b
    +head@heads.b seed@x sizes[0] data.scenes.train.size data.scenes.train.size.0 + ~ ++ a..b .a é
    experiment keep_heads reset_head backbone.weights precision metrics.detection test ../x
    data/x _target_ backbone._target_ neck neck._partial_ callbacks.checkpoint.monitor resume
"""
PIECES = r"""
    ??? null {null:1} glob(*) choice(a,b) range(3) interval(0,1) sort(a,1) shuffle(range(3)) ' "
    tag(a,b) int(x) bool(no) str([1]) [1,2] {a:1} {1:2} {a:{b:c}} ${seed} ${nope} ${data_info:x}
    ${ } [ ] ( ) \ = a=b a,b , 1_000 2024_01_02 0x10 1e3 on no TRUE nan -inf ~ # & ; é 写 😀
    {_target_:os.system} {_target_:torch.optim.SGD} {_target_:3} {_partial_:7} {_args_:[1]} *a %
    {a:b,a:c} {[1]:2} [null] [[a]] extend_list(1) none default resnet18 [resnet18] {} [] $ | >
    !!python/object:os.system ../.. -1 1:30 2024-01-02
"""
LETTERS = [*PIECES.split(), " ", "\t", "\n", "", "9" * 5000, "[" * 200, "{a: " * 50]
STORED = {
    "optimizer": {"_target_": "torch.optim.SGD", "lr": 1.0},
    "inferer": {"_target_": "densekit.inference.WholeImage"},
    **{"seed": 0, "vars": {}, "heads": {}, "paths": {"data": "x"}},
}


def odd_words(count: int) -> list[str]:
    rng = random.Random(0)
    pieces = [rng.choices(LETTERS, k=rng.choice([1, 1, 1, 2, 3])) for _ in range(count)]
    keys = rng.choices(KEYS.split(), k=count)
    return [f"{key}={''.join(found)}" for key, found in zip(keys, pieces, strict=True)]


@pytest.mark.parametrize("reader", ["compose", "expand", "apply", "options"])
def test_odd_words_are_taken_or_refused(reader: str) -> None:
    refused = 0
    words = odd_words(25 if reader == "compose" else 300)  # each is composed twice
    for word in words:
        try:
            if reader == "compose":
                OmegaConf.to_yaml(compose(parse([word])).cfg)
            elif reader == "expand":
                expand(parse([word], sweep=True))
            elif reader == "apply":
                apply_values(OmegaConf.create(STORED), parse([word]))
            else:
                split_options(
                    [word], [Option("seed", whole(0), 0, ""), RUN_NAME, TRUST, CHECKPOINT]
                )
        except UsageError:
            refused += 1
    assert refused < len(words)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (f"trainer: {{max_epochs: {'9' * 400}}}", "trainer.max_epochs: expected a number of 64"),
        (f"vars: {'[' * 3000}", "conf: expected"),
        (f"vars: {{x: {'[' * 400}{']' * 400}}}", "conf: expected settings, got endless nesting"),
    ],
)
def test_files_of_the_user_that_cannot_be_right(
    setting: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "conf" / "experiment" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(f"# @package _global_\n{setting}\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=re.escape(expected)):
        compose(parse(["experiment=mine"]))

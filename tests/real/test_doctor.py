"""What the doctor finds in real data is what is known of them."""

import pytest

from densekit.app.config.compose import compose
from densekit.app.config.overrides import parse
from densekit.app.config.resolve import data_nodes
from densekit.app.doctor.run import diagnose

pytestmark = pytest.mark.real


@pytest.fixture
def examined(folder, tmp_path, monkeypatch):
    """Examines a configuration of data; returns the number of findings of each check."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def examine(name):
        cfg = compose(parse([f"data={name}", f"paths.data={folder(name).parent}"])).cfg
        ((name, node),) = data_nodes(cfg).items()
        return diagnose(name, node, None)

    return examine


def test_bccd_has_two_boxes_of_one_pixel(examined):
    diagnosis = examined("bccd")
    assert {f.check for f in diagnosis.findings if f.severity != "note"} == {"box-thin"}
    files = {finding.file.rpartition("_")[2] for finding in diagnosis.of("box-thin")}
    assert files == {"00338.jpg", "00343.jpg"}


def test_coco_small_has_crowds_empty_images_and_gaps(examined):
    diagnosis = examined("coco_small")
    counts = diagnosis.counts()
    assert (counts["crowd"], counts["no-objects"]) == (29 + 21, 3 + 2)
    assert "category-id-gaps" in counts
    assert not [finding for finding in diagnosis.findings if finding.severity == "error"]

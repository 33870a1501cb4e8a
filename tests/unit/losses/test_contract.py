"""What holds for every loss of masks: zero-safe, blind to ignored pixels, float32 in autocast."""

from __future__ import annotations

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from densekit import losses
from tests.unit.losses.cases import LAYOUTS, LOSSES, case

every_loss = pytest.mark.parametrize("name", LOSSES)
KEEP_SLOPES = {"lovasz", "lovasz of images", "boundary"}
"""Sorting and distances are not done twice; what came of them is kept instead."""

every_layout = pytest.mark.parametrize("layout", LAYOUTS)


def loss_and_gradient(name, logits, mask):
    logits = logits.detach().requires_grad_()
    loss = LOSSES[name](logits, mask)
    loss.backward()
    return loss.detach(), logits.grad


@every_layout
@every_loss
def test_all_ignored_is_exactly_zero_with_a_gradient_for_every_logit(name, layout):
    logits, mask = case(layout)
    logits[0, :, 0] = 100
    logits[1, :, 0] = -100
    loss, gradient = loss_and_gradient(name, logits.float(), torch.full_like(mask, 255))
    assert loss.shape == ()
    assert loss == 0
    assert gradient is not None
    assert (gradient == 0).all()


@every_layout
@every_loss
def test_ignored_pixels_have_no_say(name, layout):
    logits, mask = case(layout)
    loss, gradient = loss_and_gradient(name, logits, mask)
    hidden = (mask == 255) if mask.ndim == logits.ndim else (mask == 255)[:, None]
    assert hidden.any()
    assert (gradient.masked_select(hidden.expand_as(gradient)) == 0).all()
    changed, _ = loss_and_gradient(name, logits + 5 * torch.randn_like(logits) * hidden, mask)
    torch.testing.assert_close(changed, loss)


@every_layout
@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"ce hard"}))  # whose fewest are per image
def test_an_ignored_image_does_not_dilute_the_mean(name, layout):
    logits, mask = case(layout, batch=3)
    mask[1] = 255
    alone, _ = loss_and_gradient(name, logits[::2], mask[::2])
    torch.testing.assert_close(loss_and_gradient(name, logits, mask)[0], alone)


@every_layout
@every_loss
def test_gradient_is_that_of_finite_differences(name, layout):
    logits, mask = case(layout, (2, 3))
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, mask), logits.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@every_layout
@every_loss
def test_half_precision_is_computed_in_float32(name, layout, dtype):
    logits, mask = case(layout)
    logits[0, 0, 0], logits[1, 0, 0] = 100, -100
    half = logits.to(dtype)
    wanted, _ = loss_and_gradient(name, half.float(), mask)
    with torch.autocast("cpu", dtype=dtype):
        loss, gradient = loss_and_gradient(name, half, mask)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, wanted, rtol=1e-6, atol=1e-6)
    assert gradient.dtype == dtype
    assert gradient.isfinite().all()


@every_layout
@every_loss
def test_any_dimension_and_any_layout_in_memory(name, layout):
    logits, mask = case(layout, (2, 3, 4))
    loss, gradient = loss_and_gradient(name, logits, mask)
    last = logits.to(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(loss_and_gradient(name, last, mask)[0], loss)
    if name != "boundary":  # the one that looks where pixels lie
        line, line_gradient = loss_and_gradient(name, logits.flatten(2), mask.flatten(-3))
        torch.testing.assert_close(line, loss)
        torch.testing.assert_close(line_gradient, gradient.flatten(2))
    else:
        assert loss_and_gradient(name, logits.flatten(2), mask.flatten(-3))[1].isfinite().all()


@every_layout
@every_loss
def test_better_logits_lose_less(name, layout):
    logits, mask = case(layout, (6, 7))
    logits.requires_grad_()
    before = LOSSES[name](logits, mask)
    for _ in range(20):
        (gradient,) = torch.autograd.grad(LOSSES[name](logits, mask), logits)
        logits = (logits - 5 * gradient).detach().requires_grad_()
    assert LOSSES[name](logits, mask) < before - 0.01


@every_layout
@pytest.mark.parametrize("name", sorted(set(LOSSES) - KEEP_SLOPES))
def test_no_other_tensor_of_the_size_of_the_logits_is_kept(name, layout):
    logits, mask = case(layout, (40, 50), dtype=torch.float32)
    logits.requires_grad_()
    kept = []

    def keep(tensor):
        same = tensor.untyped_storage().data_ptr() == logits.untyped_storage().data_ptr()
        if tensor.dtype != mask.dtype and not same:
            kept.append(tensor.numel() * tensor.element_size())
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = LOSSES[name](logits, mask)
    assert max(kept, default=0) < 100
    loss.backward()
    assert logits.grad is not None


@every_loss
def test_a_mask_of_another_shape_is_refused(name):
    logits, mask = case("classes")
    with pytest.raises(
        ValueError, match=r"mask: expected shape \(2, 4, 5\) of classes, .* got \(2, 4, 4\)"
    ):
        LOSSES[name](logits, mask[..., :4])


@pytest.mark.parametrize("name", ["ce", "dice", "dice of the batch", "focal", "lovasz"])
def test_compiles_without_a_break(name):
    logits, mask = case("classes", dtype=torch.float32)
    wanted, gradient = loss_and_gradient(name, logits, mask)
    compiled = torch.compile(LOSSES[name], backend="eager", fullgraph=True)
    logits.requires_grad_()
    loss = compiled(logits, mask)
    loss.backward()
    torch.testing.assert_close(loss.detach(), wanted)
    torch.testing.assert_close(logits.grad, gradient)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: losses.PixelCrossEntropy([1, -1]),
            r"PixelCrossEntropy\.class_weights: expected weights of at least 0",
        ),
        (
            lambda: losses.PixelCrossEntropy(label_smoothing=2),
            r"PixelCrossEntropy\.label_smoothing: expected 0 to 1",
        ),
        (
            lambda: losses.HardestFraction(0),
            r"HardestFraction\.fraction: expected a number in \(0, 1\]",
        ),
        (lambda: losses.HardPixels(1.5), r"HardPixels\.probability"),
        (lambda: losses.HardPixels(0.5, -1), r"HardPixels\.min_kept"),
        (lambda: losses.Tversky(0, 0), r"Tversky\.alpha, beta"),
        (lambda: losses.Tversky(gamma=0.5), r"Tversky\.gamma: expected at least 1"),
        (lambda: losses.Focal(-1), r"Focal\.gamma"),
        (lambda: losses.Focal(alpha=2), r"Focal\.alpha"),
    ],
)
def test_impossible_settings_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()

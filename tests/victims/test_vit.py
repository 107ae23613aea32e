"""The wrapper is timm's model, with the position table as an argument."""

import pytest
import timm
import torch

from privbench.errors import UnsupportedModel
from privbench.vit import ViT

PLAIN = [
    "vit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "deit3_small_patch16_224",  # no row for the class token
    "vit_small_patch14_reg4_dinov2",  # registers
    "vit_base_patch32_clip_224",  # norm before the blocks
    "vit_base_patch16_siglip_224",  # no class token
]


@pytest.mark.parametrize("name", PLAIN)
def test_equals_timms_own_forward(name):
    backbone = timm.create_model(name, img_size=56, depth=1, num_classes=7).eval()
    vit = ViT(backbone, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    images = torch.rand(2, 3, 56, 56)
    with torch.no_grad():
        expected = backbone((images - vit.mean) / vit.std)
        assert torch.equal(vit(images), expected)
        assert vit.prefix + vit.grid**2 == vit.positions.shape[1]


def test_another_table_is_used_for_each_image():
    backbone = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1, num_classes=3).eval()
    vit = ViT(backbone, (0.5,) * 3, (0.5,) * 3)
    images = torch.rand(1, 3, 32, 32).expand(2, -1, -1, -1)
    tables = torch.cat([vit.positions, vit.positions + torch.randn_like(vit.positions)])
    logits = vit(images, tables)
    assert torch.allclose(logits[:1], vit(images[:1]), atol=1e-5)
    assert not torch.allclose(logits[0], logits[1], atol=1e-3)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "resnet18"])
def test_models_without_a_position_table_are_refused(name):
    with pytest.raises(UnsupportedModel, match="no position table"):
        ViT(timm.create_model(name), (0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize("name", PLAIN)
def test_features_and_classes_are_the_two_halves_of_the_head(name):
    backbone = timm.create_model(name, img_size=56, depth=1, num_classes=7).eval()
    vit = ViT(backbone, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    tokens = vit.encode(torch.rand(2, 3, 56, 56), vit.positions)
    assert torch.equal(vit.classify(vit.features(tokens)), vit.head(tokens))

"""A victim is timm's model, with the position table as an argument and parts that have roles."""

from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from privbench.errors import UnsupportedModel
from privbench.roles import Role
from privbench.victims.families import families, wrap
from privbench.vit import ViT

ALL = set(Role)
KINDS: dict[str, set[Role]] = {
    "vit_tiny_patch16_224": ALL,
    "deit_tiny_distilled_patch16_224": ALL,
    "deit3_small_patch16_224": ALL,  # no row for the class token, layer scale
    "vit_small_patch16_dinov3": {Role.STEM, Role.QKV, Role.NORM, Role.MLP},  # rotary, registers
    "vit_small_patch14_reg4_dinov2": ALL,
    "vit_base_patch32_clip_224": {Role.STEM, Role.POSITIONS, Role.QKV, Role.MLP},  # norm before
    "vit_base_patch16_siglip_224": ALL,  # no class token
    "vit_medium_patch16_gap_240": ALL,  # average pooling
    "vit_base_patch16_rpn_224": {Role.STEM, Role.POSITIONS, Role.QKV, Role.MLP},  # norms behind
    "beit_base_patch16_224": {Role.STEM, Role.QKV, Role.NORM, Role.MLP},
    "eva02_tiny_patch14_224": {Role.STEM, Role.POSITIONS, Role.QKV, Role.NORM},  # SwiGLU
    "vit_small_patch16_rope_mixed_224": {Role.STEM, Role.QKV, Role.NORM, Role.MLP},
}


def build(name: str, side: int = 0) -> ViT:
    """One narrow block of that kind."""
    side = side or (56 if "patch14" in name else 64)
    settings: dict[str, Any] = {"depth": 1, "embed_dim": 96, "num_heads": 3, "num_classes": 7}
    if "dinov3" in name:
        settings["dynamic_img_size"] = False
    torch.manual_seed(0)
    backbone = timm.create_model(name, img_size=side, **settings)
    return wrap(backbone.eval(), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


@pytest.mark.parametrize("name", KINDS)
def test_equals_timms_own_forward(name):
    vit = build(name)
    images = torch.rand(2, 3, vit.side, vit.side)
    with torch.no_grad():
        expected = vit.backbone((images - vit.mean) / vit.std)
        assert torch.allclose(vit(images), expected, atol=1e-5)
        assert vit.prefix + vit.grid**2 == vit.positions.shape[1]
        assert vit.prefix in (0, vit.tokens_before)


@pytest.mark.parametrize("name", KINDS)
def test_it_says_which_roles_it_plays(name):
    vit = build(name)
    assert {role for role in Role if vit.supports(role)} == KINDS[name]
    for role in Role:
        if role in KINDS[name]:
            assert vit.names_of(role) <= vit.trained().keys()
        else:
            with pytest.raises(UnsupportedModel, match="Choose another victim"):
                vit.names_of(role)


@pytest.mark.parametrize("name", KINDS)
def test_patches_and_pixels_are_inverse_and_the_stem_embeds_patches(name):
    vit = build(name)
    images = torch.rand(2, 3, vit.side, vit.side)
    patches = vit.patches(images)
    assert torch.allclose(vit.pixels(patches), images, atol=1e-6)
    assert torch.allclose(vit.stem(patches), vit.embed(images), atol=1e-4)


@pytest.mark.parametrize("name", [name for name, roles in KINDS.items() if Role.TOKENS in roles])
def test_a_plain_blocks_parts_make_the_block(name):
    """Layer scale folded: from its parts alone a block gives what timm's gives."""
    vit = build(name).double()
    for parameter in vit.parameters():  # layer scale, norms and biases that are not trivial
        torch.nn.init.normal_(parameter.data, std=0.3)
    x = torch.randn(2, vit.tokens_before + vit.grid**2, vit.width, dtype=torch.float64)
    block = vit.block(0)
    y = x + block.proj(block.heads(block.norm1(x)))
    y = y + block.fc2(torch.nn.functional.gelu(block.fc1(block.norm2(y))))
    assert torch.allclose(y, vit.backbone.blocks[0](x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", KINDS)
def test_the_sequence_begins_with_the_prefix_tokens(name):
    vit = build(name)
    images = torch.rand(1, 3, vit.side, vit.side)
    entering: list[Tensor] = []
    vit.backbone.blocks[0].register_forward_pre_hook(lambda _, args: entering.append(args[0]))
    with torch.no_grad():
        vit(images)
        sequence = vit.sequence(vit.embed(images))
        prefix = vit.prefix_tokens()
    assert torch.allclose(entering[0], sequence, atol=1e-5)
    assert prefix.shape[1] == vit.tokens_before
    if vit.supports(Role.NORM):  # else a norm of the whole sequence comes between
        assert torch.allclose(sequence[:, : vit.tokens_before], prefix)


def test_another_table_is_used_for_each_image():
    vit = build("vit_tiny_patch16_224", 32)
    images = torch.rand(1, 3, 32, 32).expand(2, -1, -1, -1)
    tables = torch.cat([vit.positions, vit.positions + torch.randn_like(vit.positions)])
    logits = vit(images, tables)
    assert torch.allclose(logits[:1], vit(images[:1]), atol=1e-5)
    assert not torch.allclose(logits[0], logits[1], atol=1e-3)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "resnet18"])
def test_networks_of_no_known_family_are_refused(name):
    with pytest.raises(UnsupportedModel, match=r"beit, eva, vision_transformer"):
        wrap(timm.create_model(name), (0.5,) * 3, (0.5,) * 3)


def test_pictures_of_any_size_are_refused():
    backbone = timm.create_model("vit_tiny_patch16_224", dynamic_img_size=True, depth=1)
    with pytest.raises(UnsupportedModel, match="dynamic_img_size=False"):
        wrap(backbone, (0.5,) * 3, (0.5,) * 3)


def test_each_family_takes_classes_that_no_other_takes():
    taken = [kind for family in families().values() for kind in family.takes]
    assert len(taken) == len(set(taken)) >= 4

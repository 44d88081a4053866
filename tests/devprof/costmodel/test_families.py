import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.costmodel.families import model_family, model_kind


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("resnet18", "resnet"),
        ("torchvision:resnet50", "resnet"),
        ("tv_resnet34", "resnet"),
        ("wide_resnet50_2", "resnet"),
        ("seresnet33ts", "resnet"),
        ("resnetv2_50d", "resnet"),
        ("gluon_resnext50_32x4d", "resnext"),
        ("seresnext26t_32x4d", "resnext"),
        ("resnest50d", "resnest"),
        ("mobilenetv2_050", "mobilenetv2"),
        ("torchvision:mobilenet_v2", "mobilenetv2"),
        ("mobilenetv3_small_100", "mobilenetv3"),
        ("torchvision:mobilenet_v3_large", "mobilenetv3"),
        ("tf_mobilenetv3_large_075", "mobilenetv3"),
        ("mobilevitv2_100", "mobilevitv2"),
        ("mobilevit_s", "mobilevit"),
        ("vit_tiny_patch16_224.augreg_in21k", "vit"),
        ("torchvision:vit_b_16", "vit"),
        ("deit_tiny_patch16_224", "vit"),
        ("deit3_small_patch16_224", "vit"),
        ("beit_base_patch16_224", "vit"),
        ("swin_tiny_patch4_window7_224", "swin"),
        ("swinv2_tiny_window8_256", "swin"),
        ("torchvision:swin_v2_t", "swin"),
        ("tf_efficientnet_b0_ns", "efficientnet"),
        ("efficientnetv2_rw_s", "efficientnetv2"),
        ("torchvision:efficientnet_v2_s", "efficientnetv2"),
        ("efficientvit_b0", "efficientvit"),
        ("convnextv2_atto", "convnext"),
        ("regnety_008", "regnet"),
        ("torchvision:vgg11_bn", "vgg"),
        ("torchvision:densenet121", "densenet"),
        ("torchvision:shufflenet_v2_x1_0", "shufflenet"),
        ("torchvision:squeezenet1_1", "squeezenet"),
        ("mixer_b16_224", "mixer"),
        ("fastervit:faster_vit_0_224", "faster"),
        ("seed:cnn", "seed:cnn"),
        ("my.package:make_model", "my.package:make_model"),
    ],
)
def test_siblings_share_a_family(name, family):
    assert model_family(name) == family


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("resnet18", "image"),
        ("torchvision:vgg11", "image"),
        ("fastervit:x", "image"),
        ("seed:cnn", "seed:cnn"),
        ("a.b:c", "a.b:c"),
    ],
)
def test_image_models_of_all_catalogues_are_one_kind(name, kind):
    assert model_kind(name) == kind


@given(st.text(max_size=40))
def test_every_name_has_a_family(name):
    assert model_family(name) or not name

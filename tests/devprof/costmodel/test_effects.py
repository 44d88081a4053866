import numpy as np

from devprof.costmodel.effects import Effects, Label, covariance

LABELS = [
    Label(family, model, mode, device)
    for family, model in (("resnet", "resnet18"), ("resnet", "resnet50"), ("vit", "vit_tiny"))
    for mode in ("full", "head")
    for device in ("pi4", "pi5")
]


def test_effects_are_a_covariance():
    matrix = covariance(LABELS, LABELS)
    assert np.array_equal(matrix, matrix.T)
    assert np.linalg.eigvalsh(matrix).min() > -1e-12


def test_the_more_rows_share_the_more_alike_they_are():
    own = Label("resnet", "resnet18", "full", "pi4")
    others = [
        own,
        Label("resnet", "resnet18", "full", "pi5"),
        Label("resnet", "resnet18", "head", "pi5"),
        Label("resnet", "resnet50", "full", "pi4"),
        Label("vit", "vit_tiny", "full", "pi4"),
    ]
    shared = covariance([own], others)[0]
    assert (np.diff(shared) < 0).all()
    assert shared[-1] == 0


def test_a_family_speaks_for_models_that_were_not_measured():
    effects = Effects({("resnet18", "full"): 0.3}, {("resnet", "full"): 0.1})
    assert [effects.of(name, "full") for name in ("resnet18", "resnet34", "vit_tiny")] == [0.3, 0.1, 0.0]

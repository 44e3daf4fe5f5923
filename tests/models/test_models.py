from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from narrowing import layer_of
from torch import nn

from ipgl.core.errors import DataError
from ipgl.core.registry import UnknownNameError, lookup
from ipgl.models import MODELS, Classifier

# name, settings, input shape, features
CASES = [
    ("mlp", {"width": 6, "depth": 1}, (2, 4, 4), 6),
    ("mlp", {"width": 7, "depth": 3}, (5,), 7),
    ("cnn", {"width": 8}, (2, 4, 4), 16),
    ("cnn", {"width": 16}, (3, 9, 5), 32),
    ("resnet18", {}, (2, 32, 32), 512),
]


def build(name: str, shape: tuple[int, ...], classes: int = 2, **settings: object) -> Classifier:
    entry = MODELS[name]
    return entry.build(entry.settings.model_validate(settings), shape, classes)


class TestEveryModel:
    @pytest.mark.parametrize(("name", "settings", "shape", "size"), CASES)
    @pytest.mark.parametrize("classes", [2, 3])
    def test_features_lead_through_a_linear_head_to_logits(
        self, name: str, settings: dict[str, int], shape: tuple[int, ...], size: int, classes: int
    ) -> None:
        model = build(name, shape, classes, **settings).eval()
        x = torch.rand(4, *shape)
        with torch.no_grad():
            features, logits = model.features(x), model(x)
            assert features.shape == (4, size)
            assert logits.shape == (4, classes)
            assert model.head.weight.shape == (classes, size)
            torch.testing.assert_close(logits, features @ model.head.weight.T + model.head.bias)

    @pytest.mark.parametrize(("name", "settings", "shape", "size"), CASES)
    def test_gradients_reach_every_parameter(
        self, name: str, settings: dict[str, int], shape: tuple[int, ...], size: int
    ) -> None:
        torch.manual_seed(0)
        model = build(name, shape, **settings)
        model(torch.rand(4, *shape)).square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())

    @pytest.mark.parametrize(("name", "settings", "shape", "size"), CASES)
    def test_an_examples_logits_do_not_depend_on_its_batch(
        self, name: str, settings: dict[str, int], shape: tuple[int, ...], size: int
    ) -> None:
        model = build(name, shape, **settings).eval()
        x = torch.rand(4, *shape)
        with torch.no_grad():
            torch.testing.assert_close(model(x)[1:2], model(x[1:2]), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("name", ["mlp", "cnn"])
    def test_initial_weights_follow_the_seed(self, name: str) -> None:
        weights = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            weights.append(torch.cat([p.flatten() for p in build(name, (2, 4, 4)).parameters()]))
        assert torch.equal(weights[0], weights[1])
        assert not torch.equal(weights[0], weights[2])

    def test_an_unknown_name_lists_the_choices(self) -> None:
        with pytest.raises(UnknownNameError) as caught:
            lookup("model", MODELS, "resnet5")
        assert str(caught.value) == (
            f"unknown model 'resnet5': did you mean 'resnet50'? Choices: {', '.join(sorted(MODELS))}."
        )


class TestHiddenLayers:
    @pytest.mark.parametrize(
        ("name", "settings", "shape", "expected"),
        [
            ("mlp", {"width": 6, "depth": 3}, (2, 4, 4), [(5, 6)] * 3),
            ("cnn", {"width": 8}, (2, 8, 8), [(5, 8, 8, 8), (5, 16, 4, 4), (5, 16, 4, 4), (5, 16, 4, 4)]),
            ("resnet18", {}, (2, 32, 32), [(5, 64, 8, 8), (5, 128, 4, 4), (5, 256, 2, 2), (5, 512, 1, 1)]),
        ],
    )
    def test_first_to_last(
        self,
        name: str,
        settings: dict[str, int],
        shape: tuple[int, int, int],
        expected: list[tuple[int, ...]],
    ) -> None:
        model = build(name, shape, **settings).eval()
        x = torch.rand(5, *shape)
        with torch.no_grad(), model.recording_hidden() as outputs:
            logits = model(x)
        assert [tuple(output.shape) for output in outputs] == expected
        with torch.no_grad():
            torch.testing.assert_close(model(x), logits)
        assert len(outputs) == len(expected), "recording went on after the block"

    def test_what_follows_leaves_them_as_they_are(self) -> None:
        torch.manual_seed(0)
        model = build("mlp", (2,), width=4, depth=2)
        x = torch.rand(5, 2)
        with model.recording_hidden() as outputs:
            model(x)
        torch.testing.assert_close(outputs[0], model.features.get_submodule("linear0")(x))
        torch.testing.assert_close(outputs[1], model.features.get_submodule("linear1")(outputs[0].relu()))
        assert (outputs[0] < 0).any()


class TestMlp:
    def test_sizes_by_hand(self) -> None:
        shapes = [tuple(p.shape) for p in build("mlp", (2, 3, 3), 4, width=5, depth=2).parameters()]
        assert shapes == [(5, 18), (5,), (5, 5), (5,), (4, 5), (4,)]

    def test_forward_by_hand(self) -> None:
        model = build("mlp", (2,), width=1, depth=1)
        with torch.no_grad():
            layer_of(model.features, "linear0", nn.Linear).weight.copy_(torch.tensor([[2.0, -1.0]]))
            layer_of(model.features, "linear0", nn.Linear).bias.fill_(1.0)
            model.head.weight.copy_(torch.tensor([[3.0], [-3.0]]))
            model.head.bias.copy_(torch.tensor([0.5, 0.0]))
        # 2 * 1 - 1 * 0.5 + 1 = 2.5; and 2 * 0 - 1 * 4 + 1 = -3, which ReLU cuts off.
        logits = model(torch.tensor([[1.0, 0.5], [0.0, 4.0]]))
        assert logits.tolist() == [[8.0, -7.5], [0.5, 0.0]]

    @pytest.mark.parametrize("bad", [{"width": 0}, {"depth": 0}, {"width": 2.5}, {"hidden": 3}])
    def test_impossible_settings(self, bad: dict[str, float]) -> None:
        (key,) = bad
        with pytest.raises(ValueError, match=key):
            MODELS["mlp"].settings.model_validate(bad)


class TestCnn:
    @pytest.mark.parametrize("shape", [(2, 3, 4), (2, 4, 3), (2, 1, 1), (16,), (4, 4), (1, 2, 8, 8)])
    def test_inputs_that_are_no_images_of_four_by_four(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="cnn takes images") as caught:
            build("cnn", shape)
        assert str(caught.value) == (
            f"cnn takes images [channels, height, width] of at least 4 x 4, but got {shape}"
        )

    def test_layers_by_hand(self) -> None:
        model = build("cnn", (2, 8, 8), 2, width=8)
        convolutions = [layer for layer in model.features.children() if isinstance(layer, nn.Conv2d)]
        assert [(c.in_channels, c.out_channels, c.stride) for c in convolutions] == [
            (2, 8, (1, 1)),
            (8, 16, (2, 2)),
            (16, 16, (1, 1)),
            (16, 16, (1, 1)),
        ]

    @pytest.mark.parametrize("width", [0, 4, 12])
    def test_the_width_is_a_multiple_of_the_normalisations_groups(self, width: int) -> None:
        with pytest.raises(ValueError, match="width"):
            MODELS["cnn"].settings.model_validate({"width": width})


class TestResnet:
    @pytest.mark.parametrize(("channels", "is_torchvisions_own"), [(2, False), (3, True), (1, False)])
    def test_the_first_layer_takes_the_inputs_channels(
        self, channels: int, is_torchvisions_own: bool
    ) -> None:
        model = build("resnet18", (channels, 32, 32))
        own = torchvision.models.resnet18(weights=None).conv1
        conv1 = layer_of(model.features, "conv1", nn.Conv2d)
        assert conv1.in_channels == channels
        for name in ("out_channels", "kernel_size", "stride", "padding"):
            assert getattr(conv1, name) == getattr(own, name)
        assert conv1.bias is None
        assert (conv1.weight.shape == own.weight.shape) is is_torchvisions_own

    def test_resnet50_has_2048_features(self) -> None:
        with torch.device("meta"):
            model = build("resnet50", (3, 224, 224), 5)
        assert tuple(model.head.weight.shape) == (5, 2048)


class TestImagenetWeights:
    @pytest.mark.parametrize(
        ("name", "file"),
        [("resnet18", "resnet18-f37072fd.pth"), ("resnet50", "resnet50-11ad3fa6.pth")],
    )
    def test_offline_the_error_names_the_file_and_where_to_put_it(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, file: str
    ) -> None:
        def load(url: str, **options: object) -> None:
            assert url == f"https://download.pytorch.org/models/{file}"
            assert options["check_hash"] is True
            raise URLError("no network here")

        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        monkeypatch.setattr(torch.hub, "load_state_dict_from_url", load)
        with pytest.raises(DataError) as caught:
            build(name, (3, 32, 32), weights="imagenet")
        place = tmp_path / "hub" / "checkpoints" / file
        assert str(caught.value) == (
            f"the ImageNet weights {file} are not at {place} and could not be downloaded "
            "(URLError: <urlopen error no network here>); put the file there (TORCH_HOME moves the folder), "
            "or leave `weights` out to start from random weights"
        )

    def test_a_damaged_file_is_named(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        place = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
        place.parent.mkdir(parents=True)
        place.write_bytes(b"not weights")
        with pytest.raises(DataError) as caught:
            build("resnet18", (3, 32, 32), weights="imagenet")
        assert str(caught.value) == (
            f"the ImageNet weights {place} cannot be read (UnpicklingError); "
            "remove the file so that it is downloaded again"
        )

    def test_they_replace_everything_but_the_head(self, monkeypatch: pytest.MonkeyPatch) -> None:
        state = torchvision.models.resnet18(weights=None).state_dict()
        state["conv1.weight"] = torch.full_like(state["conv1.weight"], 0.25)
        monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: state)
        model = build("resnet18", (3, 32, 32), 2, weights="imagenet")
        assert (layer_of(model.features, "conv1", nn.Conv2d).weight == 0.25).all()
        assert torch.equal(
            layer_of(model.features, "layer4.1.conv2", nn.Conv2d).weight, state["layer4.1.conv2.weight"]
        )
        assert model.head.weight.shape == (2, 512)

    def test_they_need_three_channels(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def load(*_: object, **__: object) -> None:
            raise AssertionError("asked for weights that cannot fit")

        monkeypatch.setattr(torch.hub, "load_state_dict_from_url", load)
        with pytest.raises(ValueError, match="3 channels") as caught:
            build("resnet18", (2, 8, 8), weights="imagenet")
        assert str(caught.value) == "ImageNet weights take 3 channels, but got inputs of shape (2, 8, 8)"

    def test_without_weights_nothing_is_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def load(*_: object, **__: object) -> None:
            raise AssertionError("asked for weights that nobody wants")

        monkeypatch.setattr(torch.hub, "load_state_dict_from_url", load)
        build("resnet18", (3, 32, 32))

    def test_other_weights_are_unknown(self) -> None:
        with pytest.raises(ValueError, match="imagenet"):
            MODELS["resnet18"].settings.model_validate({"weights": "places365"})

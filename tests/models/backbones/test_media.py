"""Picture and sound bases: our way through the blocks is the model's own, and neighbours change nothing."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.backbones import loading, sizes
from models.backbones.checkpoint import from_pretrained
from models.backbones.errors import BaseModelUnreachable, Stopped, UnsupportedBaseModel
from models.backbones.float_processor import FloatProcessor
from models.backbones.media import MediaBackbone
from models.backbones.registry import BackboneEntry, FolderSource
from models.datasets.examples import Media
from tests.device import DEVICE
from tests.models.backbones import media_checkpoints
from tests.models.datasets.media_files import picture, sound

ALL = [*media_checkpoints.PICTURES, *media_checkpoints.SOUNDS]


def inputs_for(modality: str, count: int = 5) -> list[Media]:
    if modality == "image":
        return [Media(f"{n}.png", picture("PNG", size=(40 + n, 50), seed=n)) for n in range(count)]
    return [Media(f"{n}.wav", sound(seconds=0.4 + 0.5 * n, rate=8_000, seed=n)) for n in range(count)]


def load(entry: BackboneEntry, **options: object) -> MediaBackbone:
    backbone = loading.load(entry, device=DEVICE, **{"precision": "fp32", "threads": 1, **options})
    assert isinstance(backbone, MediaBackbone)
    return backbone


@pytest.fixture(scope="module", params=ALL)
def backbone(request, tmp_path_factory) -> MediaBackbone:
    return load(media_checkpoints.write(tmp_path_factory.mktemp("base") / request.param, request.param))


@pytest.fixture(scope="module")
def vit(tmp_path_factory) -> MediaBackbone:
    return load(media_checkpoints.write(tmp_path_factory.mktemp("base") / "vit", "vit"))


def test_the_last_features_are_those_of_the_model_itself(backbone):
    model = from_pretrained(torch_model(), backbone.entry, backbone.entry.source.path).eval().to(DEVICE)
    for media in inputs_for(backbone.entry.modality, 3):
        batch = backbone.collate(backbone.tokenize([media]))
        with torch.inference_mode():
            hidden = part_that_reads(model)(batch.values).last_hidden_state
        if backbone.encoder.is_map:
            expected = hidden.mean((2, 3)).mean(0)
        else:
            ends = batch.filled or [hidden.shape[1]] * len(hidden)
            places = [entry[backbone.encoder.special : end] for entry, end in zip(hidden, ends, strict=True)]
            expected = torch.cat(places).mean(0)
        found = backbone.encode([media], [f"mean.{backbone.blocks}"])[0]
        np.testing.assert_allclose(found, expected.cpu().numpy(), atol=2e-5)


def part_that_reads(model):
    """Of one that reads pictures and texts its eyes, of one that hears and writes its ears."""
    if model.config.is_encoder_decoder:
        return model.get_encoder()
    return getattr(model, "vision_model", model)


def torch_model():
    from transformers import AutoModel

    return AutoModel


def test_features_do_not_depend_on_the_company_or_on_threads(backbone):
    inputs = inputs_for(backbone.entry.modality)
    names = list({name for members in backbone.feature_sets().values() for name in members})
    together = backbone.encode(inputs, names)
    assert together.shape == (len(inputs), sum(backbone.feature_width(name) for name in names))
    assert np.isfinite(together).all()
    alone = np.concatenate([backbone.encode([media], names) for media in inputs])
    np.testing.assert_allclose(together, alone, atol=1e-4)
    backbone.threads = 2
    np.testing.assert_array_equal(backbone.encode(inputs, names), together)
    backbone.threads = 1


def test_widths_are_known_without_loading(backbone):
    found = sizes.read(backbone.entry.source.path)
    assert list(found["widths"]) == backbone.widths
    assert (found["width"], found["blocks"]) == (backbone.width, backbone.blocks)
    assert found["parameters"] > 0
    assert found["linear"] == backbone.linear


def test_a_trainable_copy_starts_as_the_frozen_base_and_shares_nothing(backbone):
    fresh = backbone.trainable_copy()
    batch = backbone.collate(backbone.tokenize(inputs_for(backbone.entry.modality, 2)))
    last = f"mean.{backbone.blocks}"
    before = backbone.features(batch, [last])[last]
    fresh.eval()
    hidden, tapped = fresh.run(batch, fresh.embed(batch), 0, backbone.blocks, taps=[1])
    torch.testing.assert_close(fresh.pool(hidden, batch, "mean"), before, atol=1e-4, rtol=1e-4)
    assert set(tapped) == {1}
    fresh.train()
    for parameter in fresh.parameters():
        assert parameter.requires_grad
        parameter.data.zero_()
    torch.testing.assert_close(backbone.features(batch, [last])[last], before)


def test_running_statistics_never_change(backbone):
    fresh = backbone.trainable_copy().train()
    norms = [module for module in fresh.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert bool(norms) == (backbone.entry.name in ("mobilenet_v1", "mobilenet_v2", "resnet", "regnet", "yamnet"))
    if not norms:
        return  # nothing that could change
    before = [norm.running_mean.clone() for norm in norms]
    batch = backbone.collate(backbone.tokenize(inputs_for(backbone.entry.modality, 2)))
    fresh.run(batch, fresh.embed(batch), 0, backbone.blocks)
    for norm, mean in zip(norms, before, strict=True):
        torch.testing.assert_close(norm.running_mean, mean)


def test_reduced_precision_only_with_parity(tmp_path):
    entry = media_checkpoints.write(tmp_path, "vit")
    exact, reduced = load(entry), load(entry, precision="bf16")
    inputs, last = inputs_for("image"), [f"mean.{exact.blocks}"]
    left, right = exact.encode(inputs, last), reduced.encode(inputs, last)
    cosine = (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
    assert cosine.min() > 0.998


def test_feature_names(vit):
    assert vit.parse_feature("unit_mean.2") == ("unit_mean", 2)
    for name in ("mean", "mean.9", "bands.1", "median.1", "mean.-1", ""):
        with pytest.raises(ValueError, match="unknown feature"):
            vit.parse_feature(name)
    units = vit.encode(inputs_for("image"), ["unit_mean.3"])
    np.testing.assert_allclose(np.linalg.norm(units, axis=1), 1.0, atol=1e-5)


@pytest.mark.skipif(DEVICE != "cpu", reason="a GPU takes all of it in one batch")
def test_encoding_stops_and_tells_how_far_it_is(vit):
    inputs, shares = inputs_for("image", 9), list[float]()
    vit.encode(inputs, ["mean.3"], progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    asked = iter([False, True])
    with pytest.raises(Stopped):
        vit.encode(inputs, ["mean.3"], stop=lambda: next(asked))


def test_the_revision_is_that_of_the_weights(tmp_path):
    first = load(media_checkpoints.write(tmp_path / "a", "vit"))
    again = load(media_checkpoints.write(tmp_path / "b", "vit"))
    other = load(media_checkpoints.write(tmp_path / "c", "dinov2"))
    assert first.revision == again.revision != other.revision


def test_a_sound_of_many_patches_is_the_mean_of_them(tmp_path):
    backbone = load(media_checkpoints.write(tmp_path, "yamnet"))
    rows = backbone.tokenize([Media("", sound(seconds=3.0, rate=16_000)), Media("", sound(seconds=0.1, rate=16_000))])
    assert [len(row) for row in rows] == [6 * 64, 64]
    batch = backbone.collate(rows)
    assert batch.values.shape == (7, 1, 96, 64)
    assert batch.starts == (0, 6, 7)
    plan = backbone.plan([len(row) for row in rows] * 8)
    assert [int(index) for part in plan for index in part] == list(range(16))


def test_long_sounds_are_cut_for_attention(tmp_path):
    backbone = load(media_checkpoints.write(tmp_path, "wav2vec2"))
    (row,) = backbone.tokenize([Media("", sound(seconds=45, rate=4_000))])
    assert len(row) == 15 * 256
    assert backbone.collate([row]).values.shape == (15, 48_000)


def test_what_is_behind_a_short_sound_is_not_pooled(tmp_path):
    backbone = load(media_checkpoints.write(tmp_path, "whisper"))
    short, long = Media("", sound(seconds=0.21, rate=16_000)), Media("", sound(seconds=2.5, rate=16_000))
    batch = backbone.collate(backbone.tokenize([short, long]))
    assert batch.starts == (0, 1, 4)  # windows of a second
    assert batch.filled == (11, 50, 50, 25)  # frames of 20 milliseconds
    names = [f"{kind}.3" for kind in ("mean", "max", "std")]
    with torch.inference_mode():
        hidden, _ = backbone.encoder.run(batch, backbone.encoder.embed(batch), 0, 3)
    for row, frames in ((0, hidden[0, :11]), (1, torch.cat([hidden[1], hidden[2], hidden[3, :25]]))):
        expected = torch.cat([frames.mean(0), frames.amax(0), frames.std(0, correction=0)])
        found = backbone.encode([(short, long)[row]], names)[0]
        np.testing.assert_allclose(found, expected.cpu().numpy(), atol=1e-4)


def test_a_picture_of_other_sides_than_the_places_is_refused(tmp_path):
    entry = media_checkpoints.write(tmp_path, "dinov3")
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text())
    square, *others = ({"height": 64, "width": width} for width in (64, 32, 16))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**settings, "size": square}))
    assert load(entry).width == 32
    for size in others:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps({**settings, "size": size}))
        with pytest.raises(UnsupportedBaseModel, match="DINOv3"):
            load(entry)


def test_pictures_in_floats_are_those_of_pillow_but_for_rounding():
    settings = {"size": {"height": 20, "width": 24}, "resample": 2, "image_mean": [0.4] * 3, "image_std": [0.2] * 3}
    photo = Image.open(io.BytesIO(picture("PNG", size=(61, 47))))
    found = FloatProcessor(settings)(photo)["pixel_values"][0]
    pixels = np.asarray(photo.resize((24, 20), Image.Resampling.BILINEAR), dtype=np.float32)
    expected = torch.from_numpy((pixels / 255 - 0.4) / 0.2).permute(2, 0, 1)
    torch.testing.assert_close(found, expected, atol=1.5 / 255 / 0.2, rtol=0)
    with pytest.raises(ValueError, match="height and a width"):
        FloatProcessor({**settings, "size": {"shortest_edge": 20}})


def test_folders_that_are_no_such_base(tmp_path):
    entry = media_checkpoints.write(tmp_path / "ears", "yamnet")
    frontend = {**media_checkpoints.FRONTEND, "mel_scale": "slaney"}
    (tmp_path / "ears" / "frontend.json").write_text(json.dumps(frontend))
    with pytest.raises(BaseModelUnreachable, match="mel_scale is 'slaney'"):
        load(entry)
    with pytest.raises(BaseModelUnreachable):
        load(BackboneEntry("gone", "image", FolderSource(Path("/no/such")), "", 1, 1, 1, 0))


def test_an_architecture_that_is_not_known(tmp_path):
    from transformers import AutoModel, SwinConfig

    entry = media_checkpoints.write(tmp_path, "vit")
    AutoModel.from_config(SwinConfig(embed_dim=8, depths=[1, 1], num_heads=[1, 2], image_size=32)).save_pretrained(
        tmp_path
    )
    with pytest.raises(UnsupportedBaseModel, match="Swin"):
        load(entry)

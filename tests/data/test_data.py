"""Data: splits, augmentation and folders, on real images."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
import torch
from helpers.paths import SHARED
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from condense_core import DataConfig
from condense_core.data import Augmentation, load, summarise
from condense_core.data.augmentation import augment
from condense_core.data.splits import balanced


@pytest.fixture
def folder(tmp_path):
    """An image folder of digits: 3 classes, 6 training and 4 test images each."""
    digits = load_digits()
    for label in range(3):
        pictures = digits.images[digits.target == label] * (255 / 16)
        for split, images in (("train", pictures[:6]), ("test", pictures[6:10])):
            path = tmp_path / "images" / split / f"class {label}"
            path.mkdir(parents=True)
            for i, image in enumerate(images):
                Image.fromarray(image.astype(np.uint8)).save(path / f"{i}.png")
    return tmp_path / "images"


def load_folder(folder, **settings):
    config = DataConfig(f"folder:{folder}", **{"validation_fraction": 0.0} | settings)
    return load(config, folder.parent / "data")


def test_the_digits_are_scikit_learns_and_the_split_is_stratified():
    data, digits = load(DataConfig("digits", validation_fraction=0.0)), load_digits()
    parts = train_test_split(range(1797), test_size=600, stratify=digits.target, random_state=0)
    pixels = torch.from_numpy(digits.images * (255 / 16)).round().to(torch.uint8)
    for split, part in zip((data.train, data.test), map(sorted, parts), strict=True):
        assert torch.equal(split.images, pixels[part][:, None].expand(-1, 3, -1, -1))
        assert torch.equal(split.labels, torch.from_numpy(digits.target[part]))


def test_digits_are_split_without_overlap_and_balanced():
    data = load(DataConfig("digits"))
    assert (len(data.train), len(data.validation), len(data.test)) == (1077, 120, 600)
    assert data.image_size == 8
    assert len(data.classes) == 10
    splits = [
        {image.numpy().tobytes() for image in part.images} for part in (data.train, data.validation, data.test)
    ]
    everything = {image.tobytes() for image in load_digits().images}
    assert sum(map(len, splits)) == len(everything) == len(set.union(*splits))
    assert data.test.labels.bincount().min() >= 57
    assert not data.train.augmentation.flip


def test_without_a_validation_split_curves_are_on_the_test_images_and_say_so():
    data = load(DataConfig("digits", validation_fraction=0.0))
    assert len(data.train) == 1197
    assert data.curves_on == "test"
    assert load(DataConfig("digits")).curves_on == "validation"


def test_a_subset_is_balanced_and_leaves_validation_and_test_as_they_are():
    whole, part = load(DataConfig("digits")), load(DataConfig("digits", train_images=100))
    assert part.train.labels.bincount().tolist() == [10] * 10
    assert torch.equal(part.validation.images, whole.validation.images)
    assert part.fingerprint != whole.fingerprint
    with pytest.raises(ValueError, match="train_images 1100: at most 1077"):
        load(DataConfig("digits", train_images=1100))


def test_a_subset_takes_from_small_classes_what_they_have():
    labels = torch.tensor([0] * 10 + [1] * 2)
    assert labels[balanced(labels, 8, torch.Generator())].bincount().tolist() == [6, 2]


def test_what_a_step_sees_depends_on_seed_and_epoch_alone(digits):
    def batches(seed, epoch, first=0):
        return [images for images, _ in digits.training_batches(seed, epoch, 64, first)]

    torch.manual_seed(1)
    once = batches(0, 2)
    torch.manual_seed(2)
    assert all(map(torch.equal, once, batches(0, 2)))
    assert torch.equal(once[1], batches(0, 2, first=1)[0])
    assert not torch.equal(once[0], batches(0, 3)[0])
    assert not torch.equal(once[0], batches(1, 2)[0])


def test_an_epoch_shows_every_image_once(digits):
    labels = torch.cat([labels for _, labels in digits.training_batches(0, 0, 64)])
    assert labels.bincount().tolist() == digits.train.labels.bincount().tolist()


def test_images_are_normalised_over_the_training_images():
    data = load(DataConfig("digits", validation_fraction=0.0))
    pixels = data.train.normalise(data.train.images)
    assert pixels.mean().item() == pytest.approx(0, abs=1e-4)
    assert pixels.std().item() == pytest.approx(1, abs=1e-3)


def test_augmentation_shifts_by_up_to_the_padding_and_flips_only_if_it_may():
    images = torch.arange(1, 10, dtype=torch.uint8).view(1, 1, 3, 3).repeat(400, 3, 1, 1)
    padded = torch.nn.functional.pad(images[0], (1,) * 4)
    crops = {padded[0, y : y + 3, x : x + 3].numpy().tobytes() for y in range(3) for x in range(3)}
    draws = torch.Generator().manual_seed(0)
    shifted = augment(images, Augmentation(1, flip=False), draws)
    assert {image[0].numpy().tobytes() for image in shifted} == crops
    flipped = augment(images, Augmentation(0, flip=True), draws)
    kinds = {image[0].numpy().tobytes() for image in flipped}
    assert kinds == {images[0, 0].numpy().tobytes(), images[0, 0].flip(1).numpy().tobytes()}
    assert (shifted[:, 0] == shifted[:, 2]).all(), "channels move together"


def test_a_folder_of_small_images_is_decoded_once_and_again_when_a_file_changes(folder):
    seen = []
    config, data_dir = DataConfig(f"folder:{folder}", validation_fraction=0.0), folder.parent / "data"
    first = load(config, data_dir, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (30, 30)
    assert first.classes == ("class 0", "class 1", "class 2")
    assert (len(first.train), len(first.test), first.image_size) == (18, 12, 8)
    seen.clear()
    assert load(config, data_dir, lambda done, total: seen.append(done)).fingerprint == first.fingerprint
    assert not seen
    Image.new("RGB", (8, 8), "red").save(folder / "train" / "class 1" / "0.png")
    changed = load(config, data_dir, lambda done, total: seen.append(done))
    assert seen
    assert changed.fingerprint != first.fingerprint


def test_large_images_stream_the_same_batches_for_the_same_seed(folder):
    for path in folder.rglob("*.png"):
        Image.open(path).resize((90, 80)).save(path)
    data = load_folder(folder, data_image_size=72)
    batches = [list(data.training_batches(0, 0, 8)) for _ in range(2)]
    assert [images.shape for images, _ in batches[0]] == [(8, 3, 72, 72), (8, 3, 72, 72), (2, 3, 72, 72)]
    assert all(torch.equal(a[0], b[0]) for a, b in zip(*batches, strict=True))
    assert not torch.equal(batches[0][0][0], next(data.training_batches(1, 0, 8))[0])
    (test, labels), *_ = data.test.evaluation_batches()
    assert test.shape == (12, 3, 72, 72)
    assert labels.tolist() == sorted(labels.tolist())


def refuse(folder, message, **settings):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_folder(folder, **settings)


def test_a_bad_folder_is_named_with_what_is_wrong(folder, tmp_path):
    refuse(tmp_path / "nowhere", "there is no folder .*nowhere")
    refuse(tmp_path, r"must hold train/ and test/ \(or val/\)")
    (folder / "test" / "other").mkdir()
    refuse(folder, "class 'other' of .* has no folder in")
    (folder / "test" / "other").rmdir()
    bad = folder / "train" / "class 1" / "bad.png"
    bad.write_bytes(b"no image")
    refuse(folder, "cannot read the image .*bad.png")
    bad.write_bytes((folder / "train" / "class 1" / "0.png").read_bytes()[:60])
    refuse(folder, "cannot read the image .*bad.png")
    bad.unlink()
    for split in ("train", "test"):
        (folder / split / "empty").mkdir()
    refuse(folder, "empty holds no image")


def test_a_folder_of_one_class_is_refused(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split / "only").mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / split / "only" / "0.png")
    refuse(tmp_path, "at least 2 class folders, has 1")


def test_val_stands_for_test(folder):
    (folder / "test").rename(folder / "val")
    assert len(load_folder(folder).test) == 12


def test_a_summary_decodes_nothing(folder):
    found = summarise(DataConfig(f"folder:{folder}"))
    assert (found.num_classes, found.image_size, found.train_images, found.test_images) == (3, 8, 18, 12)
    assert not (folder.parent / "data").exists()


def test_real_jpeg_files_load_as_a_folder(tmp_path):
    archive = SHARED / "data" / "cifar10-jpeg.tar.xz"
    if not archive.is_file():
        pytest.skip("needs the CIFAR-10 JPEG files")
    wanted = {"test/cat": 8, "test/ship": 8, "train/cat": 8, "train/ship": 8}
    with tarfile.open(archive) as tar:
        for member in tar:
            place = member.name.removeprefix("./").rpartition("/")[0]
            if member.isfile() and wanted.get(place):
                wanted[place] -= 1
                content = tar.extractfile(member).read()
                target = tmp_path / member.name.removeprefix("./")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
                pixels = np.array(Image.open(io.BytesIO(content)))
            if not any(wanted.values()):
                break
    data = load(DataConfig(f"folder:{tmp_path}", validation_fraction=0.25), tmp_path / "cache")
    assert (data.classes, data.image_size) == (("cat", "ship"), 32)
    assert (len(data.train), len(data.validation), len(data.test)) == (12, 4, 16)
    everything = torch.cat([data.train.images, data.validation.images, data.test.images])
    assert (everything == torch.from_numpy(pixels).permute(2, 0, 1)).flatten(1).all(1).any()

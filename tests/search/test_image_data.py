"""Reading Fashion-MNIST and CIFAR-10 from tiny files of the published formats, and learning from them."""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from layerclock.errors import ArgumentError
from layerclock.interfaces import AccuracyEvaluator
from layerclock.plugins import load_evaluator, load_space
from layerclock.search.supernet.checkpoint import save_supernet
from layerclock.search.supernet.evaluator import SupernetEvaluator
from layerclock.search.supernet.image_data import Distortion, LabelledImages, Scaling, distort
from layerclock.search.supernet.image_files import detect_kind, read_cifar10, read_fashion_mnist
from layerclock.search.supernet.images import images_supernet, load_image_data
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

TRAIN, TEST = 60, 20


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pictures(number: int, channels: int, side: int, seed: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Every class is as bright as its number says: uint8[N, channels, side, side] and labels uint8[N]."""
    rng = np.random.default_rng(seed)
    labels = np.arange(number, dtype=np.uint8) % 10
    images = rng.integers(0, 30, (number, channels, side, side), dtype=np.uint8) + 24 * labels[:, None, None, None]
    return images, labels


def idx(array: npt.NDArray[np.uint8]) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def records(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> bytes:
    return b"".join(bytes([label]) + image.tobytes() for image, label in zip(images, labels, strict=True))


def write_fashion(folder: Path, packed: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, number, seed in (("train", TRAIN, 0), ("t10k", TEST, 1)):
        images, labels = pictures(number, 1, 28, seed)
        for name, array in ((f"{prefix}-images-idx3-ubyte", images[:, 0]), (f"{prefix}-labels-idx1-ubyte", labels)):
            content = idx(array)
            (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(content) if packed else content)
    return folder


def write_cifar(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(5):
        images, labels = pictures(TRAIN // 5, 3, 32, number)
        (folder / f"data_batch_{number + 1}.bin").write_bytes(records(images, labels))
    (folder / "test_batch.bin").write_bytes(records(*pictures(TEST, 3, 32, 9)))
    return folder


WRITERS: dict[str, Callable[[Path], Path]] = {"fashion-mnist": write_fashion, "cifar-10": write_cifar}


@pytest.fixture
def fashion(tmp_path: Path) -> Path:
    return write_fashion(tmp_path / "fashion")


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    return write_cifar(tmp_path / "cifar")


def test_the_files_are_read_as_published(fashion: Path, cifar: Path, tmp_path: Path) -> None:
    images, labels = pictures(TRAIN, 1, 28, 0)
    for folder in (fashion, write_fashion(tmp_path / "unpacked", packed=False)):
        files = read_fashion_mnist(folder)
        assert np.array_equal(files.train_images, images)
        assert np.array_equal(files.train_labels, labels)
        assert files.test_images.shape == (TEST, 1, 28, 28)
    files = read_cifar10(cifar)
    parts = [pictures(TRAIN // 5, 3, 32, number) for number in range(5)]
    assert np.array_equal(files.train_images, np.concatenate([part[0] for part in parts]))
    assert np.array_equal(files.train_labels, np.concatenate([part[1] for part in parts]))
    assert np.array_equal(files.test_images, pictures(TEST, 3, 32, 9)[0])


def test_the_kind_is_told_by_the_files(fashion: Path, cifar: Path, tmp_path: Path) -> None:
    assert detect_kind(fashion) == "fashion-mnist"
    assert detect_kind(cifar) == "cifar-10"
    write_cifar(fashion)
    with pytest.raises(ArgumentError, match="files of cifar-10 and of fashion-mnist") as caught:
        detect_kind(fashion)
    assert "kind=cifar-10" in caught.value.hint
    for place in (tmp_path / "absent", tmp_path):
        with pytest.raises(ArgumentError) as caught:
            detect_kind(place)
        assert "cifar-10-binary.tar.gz" in caught.value.hint


@pytest.mark.parametrize("kind", WRITERS)
def test_the_parts_are_the_same_in_every_call_and_do_not_overlap(kind: str, tmp_path: Path) -> None:
    folder = WRITERS[kind](tmp_path)
    data, again = load_image_data(folder, resolution=32), load_image_data(str(folder), kind, 32)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [50, 10, TEST]
    assert torch.equal(data.train.images, again.train.images)
    assert torch.equal(data.validation.labels, again.validation.labels)
    both = torch.cat([data.train.images, data.validation.images])
    assert len(torch.unique(both.flatten(1), dim=0)) == TRAIN
    few = load_image_data(folder, resolution=48, limit=12)
    assert [len(part) for part in (few.train, few.validation, few.test)] == [10, 2, 12]
    assert few.train.shape == (data.train.shape[0], 48, 48)
    assert data.train.images.dtype == torch.uint8  # large files stay small


@pytest.mark.parametrize("kind", WRITERS)
def test_networks_see_pixels_of_unit_variance(kind: str, tmp_path: Path) -> None:
    folder = WRITERS[kind](tmp_path)
    stored = load_image_data(folder).train
    side = stored.images.shape[-1]
    data = load_image_data(folder, resolution=side)
    seen = data.train.batch(slice(None))
    assert seen.shape == (50, stored.images.shape[1], side, side)
    torch.testing.assert_close(seen.std((0, 2, 3)), torch.ones(seen.shape[1]), atol=2e-3, rtol=0)
    if kind == "cifar-10":
        torch.testing.assert_close(seen.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    else:
        assert seen.min() >= 0  # black stays 0
    rows = torch.tensor([3, 1])
    torch.testing.assert_close(data.train.batch(rows), seen[rows])
    assert data.distorted(rows, torch.Generator().manual_seed(0)).shape == seen[rows].shape


def test_stored_images_are_scaled_when_they_are_taken() -> None:
    images = LabelledImages(torch.full((2, 1, 4, 4), 7, dtype=torch.uint8), torch.zeros(2), Scaling(8, (3.0,), (2.0,)))
    assert images.shape == (1, 8, 8)
    assert torch.equal(images.batch(slice(0, 1)), torch.full((1, 1, 8, 8), 2.0))


def test_mirrored_images_look_left_or_right() -> None:
    still = Distortion(turn_degrees=0, scale=0, shift=0, blot=0, noise=0)
    mirrored = Distortion(turn_degrees=0, scale=0, shift=0, blot=0, noise=0, mirrored=True)
    images = torch.rand(64, 2, 9, 9)
    torch.testing.assert_close(distort(images, 1.0, torch.Generator().manual_seed(0), still), images, atol=1e-4, rtol=1e-4)
    turned = distort(images, 1.0, torch.Generator().manual_seed(0), mirrored)
    as_it_was = (turned - images).abs().amax((1, 2, 3)) < 1e-4
    flipped = (turned - images.flip(3)).abs().amax((1, 2, 3)) < 1e-4
    assert (as_it_was ^ flipped).all()
    assert 16 < int(flipped.sum()) < 48
    torch.testing.assert_close(distort(images, 0.0, torch.Generator().manual_seed(0), mirrored), images, atol=1e-4, rtol=1e-4)


def zipped(array: npt.NDArray[np.uint8]) -> Callable[[bytes], bytes]:
    return lambda _: gzip.compress(idx(array))


# By damage: the file, what becomes of its content, and what the error says.
DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "cut gzip": ("train-images-idx3-ubyte.gz", lambda old: old[:-20], "magic number 2051"),
    "no gzip": ("train-labels-idx1-ubyte.gz", lambda _: b"not found", "magic number 2049"),
    "damaged gzip": ("t10k-images-idx3-ubyte.gz", lambda old: old[:60] + bytes(40) + old[100:], "magic number 2051"),
    "wrong magic": ("train-labels-idx1-ubyte.gz", lambda _: gzip.compress(bytes([0, 0, 8, 2]) + bytes(100)), "bytes are 00000802"),
    "empty": ("t10k-labels-idx1-ubyte.gz", lambda _: gzip.compress(b""), "first bytes are none"),
    "short": ("train-images-idx3-ubyte.gz", lambda old: gzip.compress(gzip.decompress(old)[:-5]), "47040 bytes of 60 items, and 47035"),
    "other size": ("train-images-idx3-ubyte.gz", zipped(np.zeros((60, 8, 8), dtype=np.uint8)), "8 x 8 pixels"),
    "label 10": ("train-labels-idx1-ubyte.gz", zipped(np.full(60, 10, dtype=np.uint8)), "a label 10"),
    "no image": ("train-labels-idx1-ubyte.gz", zipped(np.zeros(0, dtype=np.uint8)), "0 bytes of 0 items"),
    "cut batch": ("data_batch_3.bin", lambda old: old[:-1], "records of 3073 bytes"),
    "empty batch": ("test_batch.bin", lambda _: b"", "records of 3073 bytes"),
    "label 255": ("data_batch_5.bin", lambda old: bytes([255]) + old[1:], "a label 255"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_with_what_was_expected(damage: str, tmp_path: Path) -> None:
    name, spoil, said = DAMAGES[damage]
    kind = "cifar-10" if name.endswith(".bin") else "fashion-mnist"
    path = WRITERS[kind](tmp_path) / name
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ArgumentError) as caught:
        load_image_data(tmp_path)
    assert str(path) in caught.value.message
    assert said in caught.value.message
    assert "get the file anew" in caught.value.hint


@pytest.mark.parametrize("name", ["train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz", "data_batch_2.bin", "test_batch.bin"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    folder = WRITERS["cifar-10" if name.endswith(".bin") else "fashion-mnist"](tmp_path)
    (folder / name).unlink()
    with pytest.raises(ArgumentError, match="is missing") as caught:
        load_image_data(folder)
    assert name in caught.value.message


def test_images_and_labels_that_do_not_belong_together_are_refused(fashion: Path) -> None:
    (fashion / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros(TEST - 1, dtype=np.uint8))))
    with pytest.raises(ArgumentError, match="20 images of 't10k' but 19 labels"):
        load_image_data(fashion)


class Trap:
    """A pickle of this writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["", "cifar-10"])
def test_pickles_are_refused_and_not_loaded(kind: str, tmp_path: Path) -> None:
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(ArgumentError, match="Python version") as caught:
        load_image_data(tmp_path, kind)
    assert "cifar-10-binary.tar.gz" in caught.value.hint
    assert not (tmp_path / "sprung").exists()


def test_impossible_wishes_are_refused(fashion: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="kind='svhn'"):
        load_image_data(fashion, "svhn")
    for resolution, limit, distortion in ((7, 0, 1.0), (32, -1, 1.0), (32, 5, 1.0), (32, 0, -1.0), (32, 0, float("nan"))):
        with pytest.raises(ArgumentError, match="no images are like that"):
            load_image_data(fashion, "", resolution, limit, distortion)
    few = tmp_path / "few"
    few.mkdir()
    images, labels = pictures(4, 1, 28, 0)
    for prefix in ("train", "t10k"):
        (few / f"{prefix}-images-idx3-ubyte").write_bytes(idx(images[:, 0]))
        (few / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(labels))
    with pytest.raises(ArgumentError, match="too few"):
        load_image_data(few)


def test_a_super_network_learns_from_a_folder(fashion: Path) -> None:
    evaluator = images_supernet(str(fashion), steps=16, width=0.25, resolution=32)
    largest = [len(gene.choices) - 1 for gene in evaluator.space.genes]
    assert evaluator.evaluate([largest])[0] > 20  # chance is 10 %


@pytest.mark.parametrize("kind", WRITERS)
def test_the_evaluator_judges_networks_of_the_digits_space(kind: str, tmp_path: Path) -> None:
    folder = WRITERS[kind](tmp_path / kind)
    parameters = "width=0.25,resolution=32"
    evaluator = load_evaluator(f"images-supernet:folder={folder},steps=1,{parameters}")
    assert isinstance(evaluator, AccuracyEvaluator)
    assert isinstance(evaluator, SupernetEvaluator)
    space = load_space(f"digits-mobilenetv3:{parameters},in_channels={3 if kind == 'cifar-10' else 1}")
    assert evaluator.space.name == space.name
    assert SiteIndex.of(evaluator.space).digest == SiteIndex.of(space).digest  # so a table of that space predicts them
    genomes = np.array([[len(gene.choices) - 1 for gene in space.genes], [0] * len(space.genes)])
    save_supernet(evaluator.supernet, tmp_path / "super.safetensors")
    loaded = images_supernet(str(folder), checkpoint=str(tmp_path / "super.safetensors"), width=0.25, resolution=32)
    assert np.array_equal(loaded.evaluate(genomes), evaluator.evaluate(genomes))
    with pytest.raises(ArgumentError):
        images_supernet(str(folder), checkpoint=str(tmp_path / "super.safetensors"), resolution=32)

"""Data sets: the embedded digits, the real MNIST and CIFAR-10, and what happens without them."""

import gc
import socket
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import symlink

from rslab.data import datasets
from rslab.data.datasets import MNIST_FILES, beyond_the_cube, data_root, load_dataset
from rslab.errors import InputError, WorkError
from rslab.smoothing.images import check_image, check_images, check_labels

# -- digits ------------------------------------------------------------------------------


def test_digits_are_the_1797_images_of_scikit_learn_split_without_overlap(digits, digits_test):
    from sklearn.datasets import load_digits

    raw = load_digits()
    assert (len(digits), len(digits_test)) == (1297, 500)
    assert digits.shape == digits_test.shape == (1, 8, 8) and digits.num_classes == 10
    both = torch.cat((digits.images, digits_test.images)) * 16
    labels = torch.cat((digits.labels, digits_test.labels))
    ours = sorted((tuple(image), int(k)) for image, k in zip(both.flatten(1).tolist(), labels, strict=True))
    theirs = sorted((tuple(image.ravel()), int(k)) for image, k in zip(raw.images, raw.target, strict=True))
    assert ours == theirs


def test_digits_are_float_images_in_the_unit_interval_with_every_class_alike(digits, digits_test):
    for split in (digits, digits_test):
        assert split.images.dtype == torch.float32 and split.labels.dtype == torch.int64
        assert split.images.min() == 0 and split.images.max() == 1
        shares = np.bincount(split.labels.numpy()) / len(split)
        assert (abs(shares - 0.1) < 0.01).all()


def test_digits_are_the_same_every_time_and_need_no_files(digits, monkeypatch, tmp_path):
    monkeypatch.setenv("RSLAB_DATA", str(tmp_path / "absent"))
    again = load_dataset("digits", "train", download=False)
    assert torch.equal(again.images, digits.images) and again.checksum == digits.checksum
    assert load_dataset("digits", "test").checksum != digits.checksum
    assert not (tmp_path / "absent").exists()


def test_a_data_set_moves_to_a_device_whole(digits):
    moved = digits.to("meta")
    assert moved.images.is_meta and moved.labels.is_meta and moved.checksum == digits.checksum


def test_unknown_names_and_splits_are_refused():
    with pytest.raises(InputError, match="^dataset: got 'cifar100', expected one of digits, mnist, mnist8, cifar10"):
        load_dataset("cifar100", "train")
    with pytest.raises(InputError, match="^split: got 'val', expected one of train, test"):
        load_dataset("digits", "val")


# -- the real data sets --------------------------------------------------------------------


def needs(folder: str) -> None:
    if not (data_root() / folder).is_dir():
        pytest.skip(f"{folder} is not in {data_root()}: RSLAB_DATA names the folder that holds it")


@pytest.mark.data
def test_mnist_is_the_published_one():
    needs("MNIST")
    train, test = (load_dataset("mnist", split, download=False) for split in ("train", "test"))
    assert train.images.shape == (60_000, 1, 28, 28) and test.images.shape == (10_000, 1, 28, 28)
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert test.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert float(train.images.mean()) == pytest.approx(0.1307, abs=5e-5)
    assert float(train.images.std()) == pytest.approx(0.3081, abs=5e-5)
    assert train.images.min() == 0 and train.images.max() == 1


@pytest.mark.data
def test_mnist8_is_mnist_in_the_frame_of_the_digits(digits):
    needs("MNIST")
    small, large = (load_dataset(name, "test", download=False) for name in ("mnist8", "mnist"))
    assert small.shape == digits.shape and torch.equal(small.labels, large.labels)
    assert small.checksum != large.checksum and float(small.images.min()) == 0 and float(small.images.max()) <= 1
    # A corner pixel is the mean of the 3×3 pixels below it: 20 pixels in 8 windows, of 2.5 pixels and a part.
    torch.testing.assert_close(small.images[:, 0, 0, 0], large.images[:, 0, 4:7, 4:7].mean((1, 2)))


@pytest.mark.data
def test_cifar10_is_the_published_one():
    needs("cifar-10-batches-py")
    test = load_dataset("cifar10", "test", download=False)
    assert test.images.shape == (10_000, 3, 32, 32) and test.images.dtype == torch.float32
    assert test.labels.bincount().tolist() == [1000] * 10
    assert test.labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]  # as every published log has them
    assert test.classes[:4] == ("airplane", "automobile", "bird", "cat")
    train = load_dataset("cifar10", "train", download=False)
    assert train.images.shape == (50_000, 3, 32, 32) and train.labels.bincount().tolist() == [5000] * 10
    assert train.images.mean((0, 2, 3)).tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-4)
    assert train.checksum != test.checksum


@pytest.mark.data
def test_the_held_out_images_are_training_images_and_complete_the_others():
    needs("cifar-10-batches-py")
    whole = load_dataset("cifar10", "train", download=False)
    train, held_out = (load_dataset("cifar10-heldout", split, download=False) for split in ("train", "test"))
    assert len(train) == 45_000 and len(held_out) == 5_000
    assert torch.equal(torch.cat((train.images, held_out.images)), whole.images)
    assert torch.equal(torch.cat((train.labels, held_out.labels)), whole.labels)
    assert len({whole.checksum, train.checksum, held_out.checksum}) == 3


@pytest.mark.data
def test_a_changed_byte_of_cifar10_is_noticed(monkeypatch, tmp_path):
    needs("cifar-10-batches-py")
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for file in (data_root() / folder.name).iterdir():
        symlink(folder / file.name, file.resolve())
    content = bytearray((folder / "test_batch").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "test_batch").unlink()
    (folder / "test_batch").write_bytes(content)
    monkeypatch.setenv("RSLAB_DATA", str(tmp_path))
    with pytest.raises(WorkError, match="CIFAR-10 .*RSLAB_DATA"):
        load_dataset("cifar10", "test", download=False)


@pytest.mark.data
def test_a_cut_file_of_mnist_is_noticed(monkeypatch, tmp_path):
    needs("MNIST")
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name in MNIST_FILES:
        symlink(folder / name, (data_root() / "MNIST" / "raw" / name).resolve())
    cut = (folder / "t10k-labels-idx1-ubyte").read_bytes()[:-1]
    (folder / "t10k-labels-idx1-ubyte").unlink()
    (folder / "t10k-labels-idx1-ubyte").write_bytes(cut)
    monkeypatch.setenv("RSLAB_DATA", str(tmp_path))
    with pytest.raises(WorkError, match="MNIST .*t10k-labels-idx1-ubyte.*RSLAB_DATA"):
        load_dataset("mnist", "test", download=False)


# -- without the files ---------------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch):
    """Downloads fail at once, and are counted."""
    asked = []

    def fail(*arguments, **options):
        asked.append(arguments)
        raise OSError("Network is unreachable")

    for module in ("mnist", "cifar"):
        monkeypatch.setattr(f"torchvision.datasets.{module}.download_and_extract_archive", fail)
    return asked


@pytest.mark.parametrize("name, title", [("mnist", "MNIST"), ("cifar10", "CIFAR-10")])
@pytest.mark.parametrize("download", [False, True])
def test_missing_data_are_a_sentence_that_names_rslab_data(monkeypatch, tmp_path, no_network, name, title, download):
    monkeypatch.setenv("RSLAB_DATA", str(tmp_path))
    with pytest.raises(WorkError) as caught:
        load_dataset(name, "test", download=download)
    sentence = str(caught.value)
    assert sentence.startswith(f"{title} is not in {tmp_path}") and "RSLAB_DATA" in sentence and "\n" not in sentence
    assert f"`rslab data {name}`" in sentence and ("could not be downloaded" in sentence) == download
    assert bool(no_network) == download


@pytest.fixture
def silent_proxy(monkeypatch):
    """Every download goes to a server that accepts it and never says a word."""
    before = set(threading.enumerate())
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(50)
        for scheme in ("http", "https"):
            monkeypatch.setenv(f"{scheme}_proxy", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("no_proxy", "")
        urllib.request.install_opener(None)  # the next one asks the environment
        yield
        urllib.request.install_opener(None)
    for thread in set(threading.enumerate()) - before:  # the download that was left behind: nobody listens any more
        thread.join(30)
    gc.collect()  # here, where the mark below holds


# Python 3.11.2, Debian 12's, leaves a socket on which a proxy was silent to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.parametrize("name", ["mnist", "mnist8", "cifar10"])
def test_a_download_that_brings_nothing_is_given_up(monkeypatch, tmp_path, silent_proxy, name):
    assert datasets.PATIENCE <= 10  # a sentence within 15 seconds
    monkeypatch.setattr(datasets, "PATIENCE", 0.5)
    monkeypatch.setenv("RSLAB_DATA", str(tmp_path))
    began = time.monotonic()
    with pytest.raises(WorkError, match="nothing came for 0.5 seconds.*`rslab data .*RSLAB_DATA"):
        load_dataset(name, "test")
    assert time.monotonic() - began < 10


def test_a_slow_download_is_waited_for(monkeypatch, tmp_path):
    """Four times as long as the patience for a silent one, a byte at a time."""
    monkeypatch.setattr(datasets, "PATIENCE", 0.5)
    monkeypatch.setenv("RSLAB_DATA", str(tmp_path))
    arrived = tmp_path / "cifar-10-python.tar.gz"

    def slow(*arguments, **options):
        for _ in range(20):
            time.sleep(0.1)
            with arrived.open("ab") as file:
                file.write(b"x")
        raise OSError("the last byte is missing")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", slow)
    with pytest.raises(WorkError, match="the last byte is missing"):
        load_dataset("cifar10", "test")
    assert arrived.stat().st_size == 20


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_damaged_files_are_never_read(monkeypatch, tmp_path, no_network, name):
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    for file in MNIST_FILES:
        (tmp_path / "MNIST" / "raw" / file).write_bytes(b"\x00\x00\x08\x01\x00\x00\x00\x00")
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    monkeypatch.setenv("RSLAB_DATA", str(tmp_path))
    with pytest.raises(WorkError, match="RSLAB_DATA"):
        load_dataset(name, "test")


def test_the_folder_is_rslab_data_or_the_cache(monkeypatch):
    monkeypatch.setenv("RSLAB_DATA", "~/elsewhere")
    assert data_root() == Path("~/elsewhere").expanduser()
    for empty in ("", None):
        monkeypatch.setenv("RSLAB_DATA", "") if empty == "" else monkeypatch.delenv("RSLAB_DATA")
        assert data_root() == Path("~/.cache/rslab").expanduser()


# -- images ------------------------------------------------------------------------------


def test_images_in_the_unit_interval_pass_and_an_empty_batch_too():
    x = torch.tensor([0.0, 0.5, 1.0, 0.25]).view(1, 1, 2, 2)
    assert check_images(x) is x
    assert len(check_images(torch.zeros(0, 1, 2, 2))) == 0


@pytest.mark.parametrize(
    "x, said",
    [
        (torch.zeros(3, 8, 8), r"shape \(3, 8, 8\), expected \(B, C, H, W\)"),
        (torch.full((1, 1, 2, 2), 255.0), r"from 255 to 255, expected \[0, 1\]"),
        (torch.full((1, 1, 2, 2), -1.0), r"from -1 to -1"),
        (torch.full((1, 1, 2, 2), torch.nan), "NaN"),
        (torch.full((1, 1, 2, 2), torch.inf), "infinite"),
        (
            torch.full((1, 1, 2, 2), 1 + 1e-12, dtype=torch.float64),
            r"from 1\.000000000001 to 1\.000000000001, expected",
        ),
        (torch.linspace(-2, 2, 4).view(1, 1, 2, 2), "normalisation belongs in the model"),
        (torch.zeros(1, 1, 0, 2), r"shape \(1, 1, 0, 2\), expected \(B, C, H, W\) of 1 or more each"),
        (torch.zeros(0, 0, 2, 2), r"shape \(0, 0, 2, 2\)"),
        (torch.zeros(1, 1, 2, 2, dtype=torch.uint8), "uint8, expected floating-point"),
        (np.zeros((1, 1, 2, 2)), r"ndarray of shape \(1, 1, 2, 2\), expected a float tensor"),
        ([0.5], "list, expected a float tensor"),
    ],
)
def test_other_images_are_refused(x, said):
    with pytest.raises(InputError, match=f"^pool: got .*{said}"):
        check_images(x, name="pool")


def test_one_image_has_three_dimensions_and_the_sentence_says_so():
    image = torch.full((1, 2, 2), 0.5)
    assert check_image(image) is image
    with pytest.raises(InputError, match=r"^image: got shape \(5, 1, 2, 2\), expected \(C, H, W\), one image"):
        check_image(torch.zeros(5, 1, 2, 2))
    with pytest.raises(
        InputError, match=r"^image: got ndarray of shape \(1, 2, 2\), expected a float tensor \(C, H, W\)"
    ):
        check_image(np.zeros((1, 2, 2)))


@pytest.mark.parametrize("labels", [[0, 2], np.array([0.0, 2.0]), torch.tensor([0, 2], dtype=torch.uint8)])
def test_whole_labels_of_any_kind_become_int64(labels):
    checked = check_labels(labels, 3, 2)
    assert checked.dtype == torch.int64 and checked.tolist() == [0, 2]


@pytest.mark.parametrize(
    "labels, said",
    [
        ([1, 2, 3], "got 3 at 2, expected whole numbers 0 … 2: classes are counted from 0"),
        ([0, -1], "got -1 at 1, expected whole numbers 0 … 2"),
        ([0.5], "got 0.5 at 0"),
        ([float("nan")], "got nan at 0"),
        ([[1, 2]], r"got shape \(1, 2\), expected \(B,\)"),
        ([True], "got torch.bool"),
        ("abc", "got str"),
    ],
)
def test_other_labels_are_refused_with_value_and_place(labels, said):
    with pytest.raises(InputError, match=f"^labels: {said}"):
        check_labels(labels, 3)
    with pytest.raises(InputError, match=r"^labels: got shape \(2,\), expected \(3,\)"):
        check_labels([0, 1], 3, 3)


def test_a_distance_beyond_the_cube_gets_a_note():
    assert beyond_the_cube("epsilon", 8.0, (1, 8, 8)) is None
    said = "Note: epsilon = 128, but images in [0, 1] lie within 8 of each other."
    assert beyond_the_cube("epsilon", 128, (1, 8, 8)) == said
    assert "lie within 1 of each other" in beyond_the_cube("epsilon", 8, (1, 8, 8), "linf")

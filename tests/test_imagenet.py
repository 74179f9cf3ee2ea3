"""ImageNet's layout with a few generated JPEGs; the whole path with ResNet-50 at 224 pixels, only fewer images."""

import os
import shutil

import numpy as np
import pytest
import torch
from helpers import symlink
from PIL import Image, PngImagePlugin
from test_distributed import finished, torchrun

from rslab.cli import main
from rslab.config import TrainConfig
from rslab.data import imagenet
from rslab.data.datasets import load_dataset
from rslab.errors import InputError, WorkError
from rslab.store import logs, run_folder
from rslab.training.loop import train

CLASSES = ("n01440764", "n02102040")


def photograph(path, width: int, height: int, seed: int) -> None:
    """A smooth colour picture, like a photograph more than noise is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(path, "JPEG", quality=90)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """imagenet/ with 2 classes, 3 training images and 2 test images each, of four shapes."""
    shapes = [(500, 375), (375, 500), (256, 256), (100, 60), (333, 500)]
    for c, name in enumerate(CLASSES):
        for i, shape in enumerate(shapes):
            place = f"train/{name}/{name}_{i}.JPEG" if i < 3 else f"val/{name}/ILSVRC2012_val_{i:08d}.JPEG"
            photograph(tmp_path / "imagenet" / place, *shape, seed=10 * c + i)
    monkeypatch.setenv("RSLAB_DATA", str(tmp_path))
    return tmp_path / "imagenet"


def call(monkeypatch, capsys, *arguments) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["rslab", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit:
        main()
    return exit.value.code, *capsys.readouterr()


def test_images_are_those_of_the_usual_test_transform(root):
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import CenterCrop, Compose, Resize, ToTensor

    usual = ImageFolder(str(root / "val"), Compose([Resize(256), CenterCrop(224), ToTensor()]))
    data = load_dataset("imagenet", "test")
    assert (len(data), data.shape, data.classes) == (4, (3, 224, 224), CLASSES)
    for number, (x, y) in enumerate(usual):
        assert torch.equal(data.images[number], x) and int(data.labels[number]) == y


@pytest.mark.parametrize(
    "names, order",
    [
        (["0", "1", "10", "11", "2"], ["0", "1", "2", "10", "11"]),  # class k is the folder k
        (["001", "01", "02", "1"], ["001", "01", "1", "02"]),  # one number in three ways: an order all the same
        (["1", "10", "2", "n3"], ["1", "10", "2", "n3"]),  # not all are numbers: by name, as everywhere
    ],
)
def test_classes_that_are_whole_numbers_are_in_the_order_of_numbers(tmp_path, monkeypatch, names, order):
    for name in names:
        for part in ("train", "val"):
            photograph(tmp_path / "imagenet" / part / name / f"{name}.JPEG", 30, 20, seed=len(name))
    monkeypatch.setenv("RSLAB_DATA", str(tmp_path))
    data = load_dataset("imagenet", "test")
    assert list(data.classes) == order
    files = [os.fsdecode(name) for name in data.images.names]
    assert files == [f"{name}/{name}.JPEG" for name in order] and data.labels.tolist() == list(range(len(order)))


def test_the_images_are_indexed_like_a_tensor(root):
    images = load_dataset("imagenet", "train").images
    whole = images[:]
    assert whole.shape == images.shape == (6, 3, 224, 224)
    assert torch.equal(images[1:6:2], whole[1:6:2]) and torch.equal(images[[4, 0]], whole[[4, 0]])
    assert torch.equal(images[torch.tensor([2])], whole[2:3]) and images[:0].shape == (0, 3, 224, 224)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_read_ahead_are_the_images_and_crops_do_not_depend_on_batches(root, workers):
    images = load_dataset("imagenet", "train").images
    state = torch.get_rng_state()
    first, second = images.batches([[5, 0], [3]], None, workers)
    assert torch.equal(first, images[[5, 0]]) and torch.equal(second, images[[3]])
    crops = torch.cat(list(images.batches([[0, 1, 2]], (7, 1), workers)))
    again = torch.cat(list(images.batches([[2], [1], [0]], (7, 1), workers)))
    assert torch.equal(crops, again.flip(0))
    assert not torch.equal(crops, torch.cat(list(images.batches([[0, 1, 2]], (7, 2), workers))))
    assert torch.equal(torch.get_rng_state(), state)


def test_random_crops_are_parts_of_the_size_and_shape_they_should_be():
    ramp = np.zeros((300, 400, 3), np.uint8)  # red tells the column, green the row
    ramp[..., 0], ramp[..., 1] = np.arange(400) * 255 // 399, (np.arange(300) * 255 // 299)[:, None]
    flips, areas = 0, []
    for seed in range(200):
        crop = imagenet.random_crop_and_flip(Image.fromarray(ramp), np.random.default_rng(seed))
        x = np.asarray(crop, float)
        width = abs(x[112, -1, 0] - x[112, 0, 0]) / 255 * 400 * 224 / 223
        height = (x[-1, 112, 1] - x[0, 112, 1]) / 255 * 300 * 224 / 223
        flips += x[112, -1, 0] < x[112, 0, 0]
        areas.append(width * height / 120_000)
        assert 0.7 < width / height < 1.4
    assert 70 < flips < 130
    assert 0.06 < min(areas) < 0.15 and max(areas) > 0.75 and 0.4 < np.mean(areas) < 0.6


def test_the_whole_path_on_the_command_line(root, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    code, out, err = call(monkeypatch, capsys, "data", "imagenet")
    assert code == 0 and "6 training and 4 test images of 3×224×224, 2 classes" in out
    small = ("--dataset", "imagenet", "--arch", "resnet50", "--epochs", 1, "--batch-size", 3, "--lr", 0.001)
    code, out, err = call(monkeypatch, capsys, "train", *small, "--augment", "--device", "cpu", "--out", run)
    assert code == 0, err
    config, classes = run_folder.read_run(run)
    assert (config.dataset, classes) == ("imagenet", 2)
    code, out, err = call(monkeypatch, capsys, "certify", run, "--n0", 4, "--n", 12, "--max", 2, "--device", "cpu")
    assert code == 0, err
    log = logs.read_log(run / "certify.tsv")
    assert list(log.idx) == [0, 1] and list(log.label) == [0, 0] and (log.n == 12).all()


@pytest.mark.soundness
def test_two_processes_train_resnet50_on_the_folder_as_one_does(root, tmp_path):
    small = "--dataset imagenet --arch resnet50 --epochs 1 --batch-size 6 --lr 0.001 --augment --device cpu".split()
    code, _, said = finished(torchrun(2, "train", *small, "--out", tmp_path / "two"))
    assert (code, said) == (0, [])
    config, _ = run_folder.read_run(tmp_path / "two")
    *_, one = train(config)
    two, _ = run_folder.load_run(tmp_path / "two")
    for a, b in zip(one["model"].state_dict().values(), two.state_dict().values(), strict=True):
        assert torch.allclose(a.float(), b.float(), atol=1e-3)


# -- what does not belong there ------------------------------------------------------------


def refused(what: str) -> None:
    with pytest.raises(InputError) as error:
        load_dataset("imagenet", "train").images[:]
    assert what in str(error.value) and str(error.value).count("\n") == 0 and len(str(error.value)) < 400


def bomb(path, width: int, height: int) -> None:
    """A PNG of one colour: a few kilobytes that unpack to width × height pixels."""
    Image.new("1", (width, height)).save(path, "PNG")


def symlink_to_a_file(folder):
    symlink(folder / "z.JPEG", "/etc/passwd")


def symlink_to_its_neighbour(folder):
    symlink(folder / "z.JPEG", folder / f"{CLASSES[0]}_0.JPEG")


def symlink_to_a_class(folder):
    symlink(folder.parent / "n09999999", folder)


def text(folder):
    (folder / "notes.txt").write_text("no image", encoding="utf-8")


def text_called_jpeg(folder):
    (folder / "z.JPEG").write_text("no image", encoding="utf-8")


def gif_called_jpeg(folder):
    (folder / "z.JPEG").write_bytes(b"GIF89a\x01\x00\x01\x00\x00\x00\x00;")


def torn(folder):
    path = folder / f"{CLASSES[0]}_0.JPEG"
    path.write_bytes(path.read_bytes()[:700])


def a_folder_called_jpeg(folder):
    (folder / "z.JPEG").mkdir()


def a_bomb(folder):
    bomb(folder / "z.JPEG", 20_000, 20_000)


def a_smaller_bomb_that_pillow_would_only_warn_of(folder):
    bomb(folder / "z.JPEG", 10_000, 10_000)


def a_line_that_grows_when_resized(folder):
    bomb(folder / "z.JPEG", 60_000, 1)


def a_bomb_of_text(folder):
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "0" * 100_000_000, zip=True)
    Image.new("L", (300, 300)).save(folder / "z.JPEG", "PNG", pnginfo=info)


def an_empty_class(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def another_class(folder):
    (folder.parent / "n09999999").mkdir()


@pytest.mark.parametrize(
    "harm, what",
    [
        (symlink_to_a_file, "z.JPEG: got a symlink, expected the file or folder itself"),
        (symlink_to_its_neighbour, "z.JPEG: got a symlink"),
        (symlink_to_a_class, "n09999999: got a symlink"),
        (text, "notes.txt: got something else than an image"),
        (text_called_jpeg, "z.JPEG: got a file that is absent, broken or no image"),
        (gif_called_jpeg, "z.JPEG: got a file that is absent, broken or no image"),
        (torn, "_0.JPEG: got a file that is absent, broken or no image"),
        (a_folder_called_jpeg, "z.JPEG: got something else than an image"),
        (a_bomb, "z.JPEG: got an image that would fill the memory, expected at most 89478485 pixels"),
        (a_smaller_bomb_that_pillow_would_only_warn_of, "z.JPEG: got an image that would fill the memory"),
        (a_line_that_grows_when_resized, "z.JPEG: got an image that would fill the memory"),
        (a_bomb_of_text, "z.JPEG: got a file that is absent, broken or no image"),
        (an_empty_class, f"{CLASSES[0]}: got no image"),
        (another_class, "got the class 'n09999999' in one of train and val"),
    ],
)
def test_what_does_not_belong_into_the_folder_is_one_sentence(root, harm, what):
    harm(root / "train" / CLASSES[0])
    refused(what)


def test_a_broken_image_among_the_workers_is_one_sentence(root, monkeypatch):
    text_called_jpeg(root / "train" / CLASSES[1])
    images = load_dataset("imagenet", "train").images
    with pytest.raises(InputError) as error:
        list(images.batches([[0, 1], [6]], None, 2))
    assert str(error.value).startswith(f"{root / 'train' / CLASSES[1] / 'z.JPEG'}: got") and "\n" not in str(
        error.value
    )


def test_an_absent_folder_is_said(tmp_path, monkeypatch, root):
    shutil.rmtree(root / "val")
    assert len(load_dataset("imagenet", "train")) == 6
    with pytest.raises(WorkError, match="imagenet is not in .*: expected val/CLASS/"):
        load_dataset("imagenet", "test")


def test_what_needs_all_images_in_memory_is_refused(root):
    with pytest.raises(InputError, match="^labels: got labels or unlabelled with imagenet"):
        train(TrainConfig(dataset="imagenet", arch="resnet50", labels=2))


def test_the_checksum_tells_names_and_sizes(root):
    before = load_dataset("imagenet", "train").checksum
    assert before == load_dataset("imagenet", "train").checksum
    os.rename(root / "train" / CLASSES[0] / f"{CLASSES[0]}_0.JPEG", root / "train" / CLASSES[0] / "a.JPEG")
    assert load_dataset("imagenet", "train").checksum != before

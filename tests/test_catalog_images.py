"""The column image: paths, names by id, bytes in parquet, addresses; what cannot be used is told by row, none lost."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

import goodrate as gr
from goodrate.catalog.images import PictureError, located, open_picture
from goodrate.models.vision.pixels import to_pixels

Run = Callable[..., tuple[int, str]]


def drawn(color: str = "red", size: tuple[int, int] = (12, 8), kind: str = "PNG", mode: str = "RGB") -> bytes:
    buffer = BytesIO()
    Image.new(mode, size, color).save(buffer, kind)
    return buffer.getvalue()


def bomb(side: int = 30_000) -> bytes:
    """A small PNG whose header says that it is huge."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with a table and, below it, a folder of pictures."""
    (tmp_path / "pics" / "deep").mkdir(parents=True)
    for name, content in {
        "a.png": drawn(), "deep/b.jpg": drawn("blue", kind="JPEG"), "c3.webp": drawn("green", kind="WEBP"),
        "c3.gif": drawn("white", kind="GIF"), "broken.jpg": drawn(kind="JPEG", size=(90, 90))[:500], "note.png": b"hi",
        "bomb.png": bomb(), "draw.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>", "empty.png": b"",
    }.items():  # fmt: skip
        (tmp_path / "pics" / name).write_bytes(content)
    (tmp_path / "secret.png").write_bytes(drawn())
    return tmp_path


def table(shop: Path, images: list[str]) -> Path:
    path = shop / "items.csv"
    frame = pl.DataFrame({"id": [f"c{n}" for n in range(len(images))], "title": "lamp", "image": images})
    frame.write_csv(path)
    return path


def test_paths_names_by_id_and_addresses(shop: Path) -> None:
    web = "https://cdn.example/x.png"
    path = table(shop, ["a.png", "pics/deep/b.jpg", web, "", "", "pics\\a.png", str(shop / "pics" / "a.png")])
    items = gr.read_catalog(path, images=shop / "pics")
    # of a.png, c3.webp and c3.gif, the item c3 without a value gets the first kind of FORMATS that is there
    assert items.frame["image"].to_list() == ["a.png", "deep/b.jpg", web, "c3.webp", "", "a.png", "a.png"]
    assert items.picture(1) == (shop / "pics/deep/b.jpg").read_bytes()
    assert items.picture(2) is None and items.picture(4) is None
    assert items[1:2].picture(0) == items.picture(1)
    assert items.skipped == () and not any("picture" in note for note in items.notes)


def test_without_images_the_column_is_a_text_as_ever(shop: Path) -> None:
    items = gr.read_catalog(table(shop, ["gone.png", "../x"]))
    assert items.frame["image"].to_list() == ["gone.png", "../x"] and items.pictures is None
    assert items.picture(0) is None


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("gone.png", "expected a file inside {pics}, found 'gone.png'"),
        ("deep", "expected a file inside {pics}, found 'deep'"),
        ("../secret.png", "expected a path inside {pics}, found '../secret.png', which is outside"),
        ("/etc/passwd", "expected a path inside {pics}, found '/etc/passwd', which is outside"),
        ("link.png", "expected a path inside {pics}, found 'link.png', which is outside"),
        ("broken.jpg", "expected a whole picture, found a broken one"),
        ("note.png", "expected a picture in JPEG, PNG, WebP or GIF, found another kind of file"),
        ("draw.svg", "expected a picture in JPEG, PNG, WebP or GIF, found SVG or HTML"),
        ("empty.png", "expected a picture in JPEG, PNG, WebP or GIF, found an empty file"),
        ("bomb.png", "expected at most 40,000,000 pixels, found "),
        ("x" * 5000 + ".png", "expected a path, found 'xxx"),
    ],
    ids=["missing", "folder", "parent", "absolute", "link", "broken", "text", "svg", "empty", "bomb", "long"],
)
def test_what_cannot_be_used_is_told_by_row(shop: Path, image: str, message: str) -> None:
    (shop / "pics" / "link.png").symlink_to(shop / "secret.png")
    path = table(shop, ["a.png", image, "a.png"])
    with pytest.raises(ValueError) as caught:
        gr.read_catalog(path, images=shop / "pics")
    said = message.format(pics=shop / "pics")
    assert f"{path}, row 3, column image: {said}" in str(caught.value)
    assert "1 bad row" in str(caught.value)
    items = gr.read_catalog(path, images=shop / "pics", skip_bad=1)  # tolerated, the item stays without its picture
    assert items.ids == ["c0", "c1", "c2"] and items.frame["image"].to_list() == ["a.png", "", "a.png"]
    assert items.skipped == () and said in items.notes[-1]


def test_a_picture_that_is_too_large_to_decode_is_never_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    for side in (30_000, 7_000):  # above and below what Pillow refuses by itself; 7,000 x 7,000 are 49 million
        with pytest.raises(PictureError, match="at most 40,000,000 pixels"):
            open_picture(bomb(side))
    for side in (30_000, 7_000):  # what a catalogue refuses, a network of pictures does, too
        with pytest.raises(ValueError, match="at most 40,000,000|not a picture that can be read"):
            to_pixels(bomb(side), 8)
    monkeypatch.setattr("goodrate.catalog.images.MOST_BYTES", 50)
    with pytest.raises(PictureError, match="at most 0 MB"):
        open_picture(drawn())


def test_bad_rows_of_other_kinds_are_still_left_out(shop: Path) -> None:
    path = shop / "items.csv"
    path.write_text("id,title,price,image\na,lamp,cheap,gone.png\nb,lamp,3,gone.png\nc,lamp,3,a.png\n")
    with pytest.raises(ValueError, match="2 bad rows"):
        gr.read_catalog(path, images=shop / "pics", skip_bad=1)
    items = gr.read_catalog(path, images=shop / "pics", skip_bad=2)
    assert items.ids == ["b", "c"] and [bad.column for bad in items.skipped] == ["price"]


def test_bytes_in_parquet(shop: Path) -> None:
    path = shop / "items.parquet"
    red, blue = drawn(), drawn("blue", kind="JPEG")
    pl.DataFrame({"id": ["a", "b", "c", "d"], "title": "lamp", "image": [red, blue, None, red]}).write_parquet(path)
    items = gr.read_catalog(path, images=shop / "pics")
    assert [items.picture(n) for n in (0, 1, 3)] == [red, blue, red] and len(items.pictures.kept) == 2
    assert items.frame["image"][2] == "" and "image" not in items.frame["attributes"][0]
    rows = [{"bytes": red, "path": "x.png"}, {"bytes": None, "path": None}]  # as Hugging Face data sets have it
    pl.DataFrame({"id": ["a", "b"], "title": "lamp", "image": rows}).write_parquet(path)
    items = gr.read_catalog(path, images=shop / "pics")
    assert (items.picture(0), items.frame["image"][1]) == (red, "")
    pl.DataFrame({"id": ["x"], "title": "lamp", "image": [b"\xff"]}).write_parquet(path)
    with pytest.raises(ValueError, match="row 1, column image: expected a picture in"):
        gr.read_catalog(path, images=shop / "pics")


def test_a_folder_that_is_not_there(shop: Path) -> None:
    with pytest.raises(FileNotFoundError, match="--images .*nowhere: there is no such folder"):
        gr.read_catalog(table(shop, ["a.png"]), images=shop / "nowhere")


def test_addresses_of_feeds_are_kept(shop: Path) -> None:
    feed = shop / "feed.tsv"
    feed.write_text("id\ttitle\timage link\tprice\nc3\tlamp\thttps://s.example/7.jpg\t3 EUR\n")
    items = gr.read_catalog(feed, format="merchant", images=shop / "pics")
    assert items.frame["image"].to_list() == ["https://s.example/7.jpg"]
    export = shop / "products_export.csv"
    export.write_text("Handle,Title,Variant SKU,Variant Price,Image Src\nlamp,Lamp,s1,3.00,https://s.example/8.jpg\n")
    assert (
        gr.read_catalog(export, format="shopify", images=shop / "pics").frame["image"][0] == "https://s.example/8.jpg"
    )


@pytest.mark.parametrize("name", ["..", "a.png/../../secret.png", "\0", "deep/../../secret.png"])
def test_no_path_leads_out(shop: Path, name: str) -> None:
    with pytest.raises(PictureError):
        located(shop / "pics", name)

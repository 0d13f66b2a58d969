"""/image/{id}: thumbnails of the index's own pictures, and nothing of any other file."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import polars as pl
import pytest
from fastapi.testclient import TestClient
from PIL import Image

import goodrate as gr
from goodrate.retrieval.manifest import read_manifest
from goodrate.retrieval.pictures import pictures_of
from goodrate.serving import image_routes
from goodrate.serving.access import Access, Token, _digest
from goodrate.serving.http import create_app
from goodrate.serving.image_routes import Thumbnails, thumbnail
from goodrate.serving.parts import Parts
from serving_shop import fake_pipeline
from test_catalog_images import bomb, drawn

ITEMS = {
    "id": ["a", "b/2", "c", "d", "e"], "title": "lamp",
    "image": ["a.png", "b.jpg", "https://cdn.example/c.png", "", "clear.png"],
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index beside the folder of its pictures."""
    home = tmp_path_factory.mktemp("pictured")
    (home / "pics").mkdir()
    (home / "pics" / "a.png").write_bytes(drawn("red", (300, 200)))
    (home / "pics" / "b.jpg").write_bytes(drawn("blue", (1000, 2000), "JPEG"))
    (home / "pics" / "clear.png").write_bytes(drawn("#00ff0080", (10, 10), mode="RGBA"))
    (home / "secret.txt").write_text("secret")
    items = gr.read_catalog(pl.DataFrame(ITEMS), images=home / "pics")
    gr.Index.create(home / "index", items)
    return home


@pytest.fixture
def client(folder: Path) -> TestClient:
    return TestClient(create_app(gr.Index.open(folder / "index").pipeline))


def opened(content: bytes) -> Image.Image:
    return Image.open(BytesIO(content))


def test_the_index_remembers_the_folder_so_that_both_can_be_moved(folder: Path) -> None:
    assert read_manifest(folder / "index").images == "../pics"


@pytest.mark.parametrize(("size", "side"), [(1, 96), (96, 96), (97, 192), (384, 300), (768, 300)])
def test_thumbnails_have_few_sizes_and_are_never_enlarged(client: TestClient, size: int, side: int) -> None:
    answer = client.get(f"/image/a?size={size}")
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/jpeg"
    assert opened(answer.content).size == (side, round(side * 2 / 3))
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "img-src 'self' data:;" in answer.headers["content-security-policy"]


def test_ids_with_strokes_and_pictures_with_clear_parts(client: TestClient) -> None:
    assert opened(client.get("/image/b%2F2").content).size == (192, 384)
    clear = client.get("/image/e")
    assert clear.headers["content-type"] == "image/png" and opened(clear.content).getpixel((0, 0)) == (0, 255, 0, 128)


def test_a_browser_that_has_the_picture_gets_no_second_copy(client: TestClient) -> None:
    first = client.get("/image/a?size=96")
    again = client.get("/image/a?size=96", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    other = client.get("/image/a?size=192", headers={"if-none-match": first.headers["etag"]})
    assert other.status_code == 200 and other.headers["etag"] != first.headers["etag"]


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("c", 404, "no picture of 'c' is here"),  # on the web, not here
        ("d", 404, "no picture of 'd' is here"),
        ("nobody", 404, "the index has no item 'nobody'"),
        ("..%2Fsecret.txt", 404, "the index has no item '../secret.txt'"),
        ("a?size=0", 422, "size"),
        ("a?size=5000", 422, "size"),
    ],
)
def test_what_is_not_there(client: TestClient, path: str, status: int, message: str) -> None:
    answer = client.get(f"/image/{path}")
    assert answer.status_code == status and message in answer.text
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("change", ["gone", "replaced by a text", "replaced by a bomb", "a link outside", "no folder"])
def test_a_picture_that_changed_for_the_worse_after_indexing(
    tmp_path: Path, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    pics = tmp_path / "pics"
    pics.mkdir()
    (pics / "a.png").write_bytes(drawn())
    (tmp_path / "secret.png").write_bytes(drawn("green"))
    frame = pl.DataFrame({"id": ["a"], "title": ["lamp"], "image": ["a.png"]})
    index = gr.Index.create(tmp_path / "index", gr.read_catalog(frame, images=pics))
    asked = TestClient(create_app(index.pipeline))
    assert asked.get("/image/a").status_code == 200
    (pics / "a.png").unlink()
    if change == "replaced by a text":
        (pics / "a.png").write_text("root:x:0:0")
    elif change == "replaced by a bomb":
        (pics / "a.png").write_bytes(bomb())
    elif change == "a link outside":
        (pics / "a.png").symlink_to(tmp_path / "secret.png")
    elif change == "no folder":
        pics.rmdir()
    answer = asked.get("/image/a")
    assert answer.status_code == 404 and "the server's log says why" in answer.text
    assert "root:" not in answer.text and str(tmp_path) not in answer.text
    assert "cannot be shown: expected" in caplog.text


def test_bytes_of_a_table_are_kept_in_the_index(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    red = drawn()
    pl.DataFrame({"id": ["a", "b"], "title": "lamp", "image": [red, red]}).write_parquet(path)
    (tmp_path / "none").mkdir()
    gr.Index.create(tmp_path / "index", gr.read_catalog(path, images=tmp_path / "none"))
    path.unlink()
    (tmp_path / "none").rmdir()
    index = gr.Index.open((tmp_path / "index").rename(tmp_path / "moved"))
    assert len(list((tmp_path / "moved" / "images").iterdir())) == 1
    kept = pictures_of(index.store)
    assert [kept.content(image) for image in index.items.frame["image"]] == [red, red] and len(kept.kept) == 1
    assert TestClient(create_app(index.pipeline)).get("/image/b").status_code == 200


@pytest.mark.parametrize(
    ("image", "place"),
    [
        ("pics/a b.png?v=2", "../pics/a%20b.png?v=2"),
        ("/pics/a.png", "/pics/a.png"),
        ("/\\evil.example/a.png", "/%5Cevil.example/a.png"),  # browsers take \\ for /
        ("\\\\evil.example", "../%5C%5Cevil.example"),
        ("a.png\r\nSet-Cookie: x", "../a.png%0D%0ASet-Cookie%3A%20x"),
    ],
)
def test_without_a_folder_a_path_is_one_of_this_server(tmp_path: Path, image: str, place: str) -> None:
    """A proxy may answer there: that is how the page showed relative paths before it had pictures of its own."""
    from goodrate.catalog.items import Catalog

    catalog = Catalog(pl.DataFrame({"id": ["a"], "title": ["lamp"], "image": [image]}))
    asked = TestClient(create_app(gr.Index.create(tmp_path / "index", catalog).pipeline), follow_redirects=False)
    answer = asked.get("/image/a?size=192")
    assert (answer.status_code, answer.headers["location"]) == (307, place)


def test_a_token_is_needed_as_for_a_search(folder: Path) -> None:
    access = Access((Token(_digest("s" * 20), "search", "shop"),), None)
    asked = TestClient(create_app(gr.Index.open(folder / "index").pipeline, Parts(access=access)))
    assert asked.get("/image/a").status_code == 401
    assert asked.get("/image/a", headers={"authorization": f"Bearer {'s' * 20}"}).status_code == 200


def test_an_engine_of_others_has_no_pictures_here() -> None:
    assert TestClient(create_app(fake_pipeline())).get("/image/a").status_code == 404


def test_the_memory_of_thumbnails_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(image_routes, "MOST_KEPT", 1500)
    monkeypatch.setattr(image_routes, "thumbnail", lambda content, side: made.append(content) or ("x", content))
    kept = Thumbnails()
    for name in "abcaba":
        kept.of(name, name.encode() * 600, 96)
    # two fit: a, b, then c for a, a for b, b for c, and the last a is still there
    assert [content[:1] for content in made] == [b"a", b"b", b"c", b"a", b"b"]


def test_a_camera_held_sideways_and_what_it_wrote_are_not_passed_on() -> None:
    image = Image.new("RGB", (40, 20), "red")
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "my own camera"  # turned by 90 degrees; its maker
    buffer = BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    kind, small = thumbnail(buffer.getvalue(), 96)
    assert (kind, opened(small).size) == ("image/jpeg", (20, 40)) and b"my own camera" not in small

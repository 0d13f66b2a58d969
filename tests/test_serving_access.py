"""Who may ask a server: tokens and their roles, the names it is asked by, pages of other sites."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

import goodrate as gr
from goodrate.serving.access import Access, Token, _digest, access_for, read_tokens, role_for
from goodrate.serving.http import create_app
from goodrate.serving.parts import Parts
from goodrate.serving.picture_pass import PicturePass
from serving_shop import fake_judge, fake_pipeline

SEARCH, JUDGE, EDIT = "search-token-0001", "judge-token-00001", "edit-token-000001"
FILE = f"# who may ask\nsearch {SEARCH}\n\njudge {JUDGE} shop  # the shop's own\nedit {EDIT} anna\n"
PAIR = {"query": "shoes", "item_text": "Trail"}


def client_of(access: Access | None, host: str = "127.0.0.1:8000") -> TestClient:
    app = create_app(fake_pipeline(fake_judge()), Parts(access=access))

    @app.post("/votes")  # of a page that somebody adds: what writes and is not known needs "edit"
    def votes() -> dict[str, str]:
        return {"kept": "yes"}

    # the page's files answer at every address that no route before them has
    app.router.routes.insert(0, app.router.routes.pop())
    return TestClient(app, base_url=f"http://{host}", raise_server_exceptions=False)


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    (tmp_path / "tokens.txt").write_text(FILE, encoding="utf-8")
    return tmp_path / "tokens.txt"


@pytest.fixture
def guarded(tokens: Path) -> TestClient:
    return client_of(access_for("0.0.0.0", tokens, insecure=False))


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("GET", "/compare/", "edit"), ("GET", "/compare/sets/1", "edit"), ("GET", "/overrules", "edit"),
        ("DELETE", "/overrules/3", "edit"), ("POST", "/grading/votes", "edit"), ("GET", "/monitoring", "edit"),
        ("POST", "/ubi/events", "search"), ("GET", "/compared", "search"), ("PUT", "/search", "search"),
        ("HEAD", "/readyz", None), ("POST", "/", "judge"), ("DELETE", "/search2", "edit"),
    ],
)  # fmt: skip
def test_raters_data_is_for_raters_and_events_come_from_shoppers(method: str, path: str, role: str | None) -> None:
    assert role_for(method, path) == role


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    ("method", "path", "body", "allowed"),
    [
        ("GET", "/search?query=a", None, {SEARCH, JUDGE, EDIT}),
        ("POST", "/search", {"query": "a"}, {SEARCH, JUDGE, EDIT}),
        ("GET", "/", None, {SEARCH, JUDGE, EDIT}),
        ("GET", "/metrics", None, {SEARCH, JUDGE, EDIT}),
        ("GET", "/openapi.json", None, {SEARCH, JUDGE, EDIT}),
        ("POST", "/judge", {"pairs": [PAIR]}, {JUDGE, EDIT}),
        ("GET", "/explain?query=a&item_id=a1", None, {JUDGE, EDIT}),
        ("POST", "/v2/rerank", {"query": "a", "documents": ["b"]}, {JUDGE, EDIT}),
        ("POST", "/score", {"text_1": "a", "text_2": "b"}, {JUDGE, EDIT}),
        ("POST", "/votes", {}, {EDIT}),
    ],
)
def test_each_role_may_do_its_part(guarded: TestClient, method: str, path: str, body: Any, allowed: set[str]) -> None:
    for token in (SEARCH, JUDGE, EDIT):
        answer = guarded.request(method, path, json=body, headers=bearer(token))
        assert answer.status_code == (200 if token in allowed else 403), (token, answer.text)
    refused = guarded.request(method, path, json=body)
    assert refused.status_code == 401 and "Authorization: Bearer TOKEN" in refused.json()["message"]
    assert [one.split()[0] for one in refused.headers.get_list("www-authenticate")] == ["Basic", "Bearer"]
    assert refused.headers["x-content-type-options"] == "nosniff"


def test_a_token_comes_as_bearer_or_as_a_browsers_password(guarded: TestClient) -> None:
    def status(authorization: str) -> int:
        return guarded.get("/search?query=a", headers={"authorization": authorization}).status_code

    def basic(text: bytes) -> str:
        return f"Basic {base64.b64encode(text).decode()}"

    assert status(basic(f"anybody:{SEARCH}".encode())) == status(f"bearer {SEARCH}") == 200
    wrong = [f"Bearer {SEARCH}x", "Bearer", "Basic !", basic(b"\xff:\xff"), basic(SEARCH.encode()), f"Token {SEARCH}"]
    assert {status(one) for one in wrong} == {401}


def test_health_is_for_anybody_and_says_more_to_those_who_have_a_token(guarded: TestClient) -> None:
    assert guarded.get("/readyz").json() == {"status": "ready"}
    assert guarded.get("/healthz").json() == {"status": "ok"}
    assert guarded.get("/healthz", headers=bearer(SEARCH)).json()["items"] == 5
    assert client_of(None).get("/healthz").json()["items"] == 5


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no tokens; expected lines ROLE TOKEN [NAME]"),
        (f"admin {SEARCH}", "line 1: expected ROLE TOKEN [NAME], a role of search, judge, edit"),
        ("# a\nsearch", "line 2: expected ROLE TOKEN [NAME]"),
        (f"search {SEARCH} a b", "line 1: expected ROLE TOKEN [NAME]"),
        ("search short", "line 1: the token has under 16 characters; make one with: python -c"),
        (f"search {SEARCH}\nedit {SEARCH}", "line 2: this token stands on an earlier line too"),
    ],
)
def test_a_wrong_token_file_is_said_by_line(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "tokens.txt").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match="tokens.txt") as raised:
        read_tokens(tmp_path / "tokens.txt")
    assert said in str(raised.value) and SEARCH not in str(raised.value)


@pytest.mark.parametrize("content", ["search möglichst-lange-tokens\n".encode("latin-1"), b"PAR1\xbe\xff\x00"])
def test_a_token_file_that_is_no_text_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokens.txt").write_bytes(content)
    with pytest.raises(ValueError, match=r"tokens\.txt, line 1: .*not UTF-8"):
        read_tokens(tmp_path / "tokens.txt")


def test_tokens_are_kept_as_digests_with_their_names(tokens: Path) -> None:
    read = read_tokens(tokens)
    assert [(token.role, token.user) for token in read] == [("search", "search"), ("judge", "shop"), ("edit", "anna")]
    assert EDIT not in repr(read)


def test_an_address_that_others_reach_needs_tokens(tokens: Path) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.7", "shop.example"):
        with pytest.raises(ValueError, match="--token-file FILE .* or --insecure to answer anybody"):
            access_for(host, None, insecure=False)
        assert access_for(host, None, insecure=True).tokens is None
        assert len(access_for(host, tokens, insecure=False).tokens or ()) == 3
    assert access_for("127.0.0.1", None, insecure=False).tokens is None
    with pytest.raises(ValueError, match="--token-file"):  # from Python too, before anything listens
        gr.serve(None, host="0.0.0.0")  # type: ignore[arg-type]


def test_other_names_than_its_own_are_refused() -> None:
    """A page of evil.example whose name was made to lead to this machine (DNS rebinding) sends its own name."""
    access = access_for("127.0.0.1", None, insecure=False)
    for host in ("127.0.0.1:8000", "localhost:8000", "[::1]:8000", "192.0.2.7"):
        assert client_of(access, host).get("/search?query=a").status_code == 200
    for path in ("/search?query=a", "/", "/healthz"):
        answer = client_of(access, "evil.example").get(path)
        assert answer.status_code == 421 and "'evil.example'; --allow-host" in answer.json()["message"]
        assert "x-content-type-options" in answer.headers
    named = access_for("127.0.0.1", None, insecure=False, hosts=["Shop.example"])
    assert client_of(named, "shop.example").get("/search?query=a").status_code == 200
    assert client_of(named, "evil.example").get("/search?query=a").status_code == 421


def test_pages_of_other_sites_may_not_ask_unless_they_are_named() -> None:
    client = client_of(access_for("127.0.0.1", None, insecure=False, origins=["https://shop.example"]))
    own = client.get("/search?query=a", headers={"origin": "http://127.0.0.1:8000"})
    named = client.get("/search?query=a", headers={"origin": "https://shop.example"})
    assert own.status_code == named.status_code == 200
    assert named.headers["access-control-allow-origin"] == "https://shop.example"
    for origin in ("https://evil.example", "null", "http://127.0.0.1:9", "https://shop.example.evil.example"):
        refused = client.post("/search", json={"query": "a"}, headers={"origin": origin})
        assert refused.status_code == 403 and "--cors ORIGIN" in refused.json()["message"]
        assert "access-control-allow-origin" not in refused.headers


def test_a_browser_may_ask_beforehand_without_a_token(tokens: Path) -> None:
    client = client_of(access_for("0.0.0.0", tokens, insecure=False, origins=["https://shop.example"]))
    asked = {
        "origin": "https://shop.example", "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }  # fmt: skip
    assert client.options("/search", headers=asked).headers["access-control-allow-origin"] == "https://shop.example"
    assert client.options("/search", headers=asked | {"origin": "https://evil.example"}).status_code == 400


@pytest.mark.parametrize("origin", ["*", "shop.example", "https://shop.example/", "https://a@shop.example", "ftp://a"])
def test_an_origin_is_a_site(origin: str) -> None:
    with pytest.raises(ValueError, match="expected a site such as https://shop.example"):
        Access(origins=(origin,))


def test_a_picture_pass_opens_pictures_and_nothing_else(tmp_path: Path) -> None:
    now = [10_000.0]
    passes = PicturePass([b"a", b"b"], lambda: now[0])
    made, until = passes.made()
    assert until == 14_400 and passes.holds(made) and PicturePass([b"b", b"a"], lambda: now[0]).holds(made)
    assert not PicturePass([b"a"], lambda: now[0]).holds(made)  # a token was taken away

    def lets(path: str, sent: str, method: str = "GET") -> bool:
        return passes.lets({"method": method, "path": path, "query_string": f"size=96&pass={sent}".encode()})

    assert lets("/image/a", made) and lets("/clip/a/b", made, "HEAD")
    assert not lets("/search", made) and not lets("/image/a", made, "POST") and not lets("/images", made)
    later = f"{until + 3600:x}-{made.split('-')[1]}"
    for wrong in ("", "x", made[:-1], made + "0", made.upper(), later, f"{made}&pass={made}", "-" * 70, "9" * 99):
        assert not lets("/image/a", wrong)
    now[0] = 10_799.0
    assert passes.made()[0] == made  # the address of a picture stays the same for an hour
    now[0] = 14_400.0
    assert not passes.holds(made)
    access = Access((Token(_digest("t" * 16), "search", "x"),), None)
    guarded = TestClient(create_app(fake_pipeline(), Parts(access=access)))
    assert guarded.get("/picture-pass").status_code == 401
    told = guarded.get("/picture-pass", headers={"authorization": f"Bearer {'t' * 16}"}).json()
    assert guarded.get(f"/image/a1?pass={told['pass']}").status_code == 404  # there is none: it was let through
    for refused in ("/image/a1", f"/search?query=x&pass={told['pass']}"):
        assert guarded.get(refused).status_code == 401
    assert TestClient(create_app(fake_pipeline())).get("/picture-pass").json() == {"pass": None, "until": None}

"""judge.json: what is refused, naming the file, and what a folder that is no judge is told about itself."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from goodrate.relevance import encoder_judge, human_judge
from goodrate.relevance.judge import open_judge
from goodrate.relevance.judge_card import read_judge_card, write_judge_card
from goodrate.relevance.lm_judge import Card, LmJudge

LM = Card(scale="four_level", label_token_ids=(4, 5, 6, 7))
ENCODER = encoder_judge.Card(scale="wands", encoder="e", fingerprint="f", slope=2.0, cuts=(0.5, 1.5))


@pytest.mark.parametrize("card", [LM, ENCODER, human_judge.Card(scale="esci", contexts=2)])
def test_every_kind_of_card_is_read_as_it_was_written(tmp_path: Path, card: Any) -> None:
    write_judge_card(tmp_path, card)
    read = read_judge_card(tmp_path)
    assert read == card and type(read) is type(card)


def test_a_card_from_before_there_were_kinds_is_an_lms(tmp_path: Path) -> None:
    (tmp_path / "judge.json").write_text('{"scale": "four_level", "label_token_ids": [4, 5, 6, 7]}')
    assert read_judge_card(tmp_path) == LM


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_token_ids": [1, 2, 3]}, "expected 4 different ids"),
        ({"label_token_ids": [1, 2, 3, 3]}, "expected 4 different ids"),
        ({"label_token_ids": [1, 2, 3, -4]}, r"label_token_ids \[1, 2, 3, -4\]: expected 4 different ids"),
        ({"label_token_ids": [1, 2, 3, "4"]}, "expected 4 different ids"),
        ({"order": "sideways"}, "order 'sideways' is not one of label_first"),
        ({"temperature": 0}, "temperature 0: expected a finite number above 0$"),
        ({"temperature": math.inf}, "temperature inf: expected a finite number above 0$"),
        ({"temperature": math.nan}, "temperature nan: expected a finite number above 0$"),
        ({"beta_cum": 1}, "beta_cum 1: expected a finite number above 0 and below 1$"),
        ({"max_new_tokens": True}, "max_new_tokens True: expected a whole number from 1 to 1,000,000"),
        ({"max_new_tokens": 0}, "max_new_tokens 0: expected a whole number from 1"),
        ({"rules": -1}, "rules -1: expected a whole number from 0"),
        ({"contexts": 1.5}, "contexts 1.5: expected a whole number from 0"),
        (
            {"temprature": 1},
            "unknown key 'temprature'; "
            "known: kind, scale, temperature, beta_cum, contexts, label_weights, tuning, ",
        ),
        ({"scale": "stars"}, "unknown scale 'stars'"),
        ({"kind": "oracle"}, "unknown kind of judge 'oracle'; known: lm, encoder, human"),
        (
            {"kind": "human"},
            "unknown key 'chat_frame'; "
            "known: kind, scale, temperature, beta_cum, contexts, label_weights, tuning, ",
        ),
        ({"label_token_ids": [-1, -2, -3, -4]}, "expected 4 different ids"),
        ({"max_new_tokens": 10**9}, "max_new_tokens 1000000000: expected a whole number from 1 to 1,000,000"),
        ({"stop_token_id": -5}, "stop_token_id -5: expected a whole number from 0"),
        ({"stop_token_id": True}, "stop_token_id True: expected a whole number"),
        ({"rule_book_hash": 7}, "rule_book_hash 7: input should be a valid string"),
        ({"tuning": None}, "tuning None: input should be a valid string"),
        ({"previous": {"temperature": "1"}}, "previous .*: input should be a valid number"),
        ({"warnings": ["x", 3]}, "warnings .*: input should be a valid string"),
        ({"scale": ["esci"]}, "judge.json: "),
        ({"order": {}}, "order {} is not one of"),
    ],
)
def test_a_wrong_card_is_refused_with_its_file(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write_judge_card(tmp_path, LM)
    path = tmp_path / "judge.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=message) as error:
        read_judge_card(tmp_path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slope": -1.0}, "slope -1.0: expected a finite number"),
        ({"cuts": [1.5, 0.5]}, r"cuts \[1.5, 0.5\]: expected 2 rising numbers"),
        ({"cuts": [0.5]}, r"cuts \[0.5\]: expected 2 rising numbers"),
        ({"cuts": [0.5, math.nan]}, "cuts nan: expected a finite number"),
        ({"cuts": "ab"}, "cuts 'a': expected a finite number"),
        ({"fields": ["name"]}, "cannot render field 'name'"),
        ({"labelled_pairs": "many"}, "labelled_pairs 'many': input should be a valid integer"),
        ({"fingerprint": None}, "fingerprint None: input should be a valid string"),
    ],
)
def test_a_wrong_card_of_an_encoder_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write_judge_card(tmp_path, ENCODER)
    path = tmp_path / "judge.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=message) as error:
        read_judge_card(tmp_path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"null", "expected a JSON object, found NoneType"),
        (b"[]", "expected a JSON object, found list"),
        (b"{", "not valid JSON: "),
        (b"\xff\xfe{", "not valid JSON: "),
        (b'{"scale": "four_level"}', "missing 'label_token_ids'"),
        (b'{"kind": "encoder", "scale": "four_level", "encoder": "e"}', "missing 'cuts'"),
        (b'{"kind": [], "scale": "four_level"}', r"unknown kind of judge \[\]; known: lm"),
    ],
)
def test_a_file_that_is_no_card_is_refused_with_its_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "judge.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        open_judge(tmp_path)
    assert str(error.value).startswith(f"{path}: ")


def refusal(folder: Path) -> str:
    """What is said when a folder that is no judge is opened as one."""
    with pytest.raises(FileNotFoundError) as error:
        open_judge(folder)
    said = str(error.value)
    assert said.startswith(f"{folder / 'judge.json'}: no such file; ")
    return said.split("; ", 1)[1]


def test_a_folder_without_a_card_is_not_a_judge(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"judge\.json"):
        LmJudge.load(tmp_path)
    makers = "goodrate train judge_sft, judge_encoder or judge_human make"
    assert refusal(tmp_path) == f"a judge is a folder with a judge.json; {makers} one"
    assert refusal(tmp_path / "absent") == f"the folder does not exist; {makers} judges"


def test_a_run_folder_says_where_its_judge_is(tmp_path: Path) -> None:
    (tmp_path / "judge").mkdir()
    write_judge_card(tmp_path / "judge", LM)
    assert refusal(tmp_path) == f"a judge is a folder with a judge.json; that of this run is {tmp_path / 'judge'}"


def test_models_and_adapters_say_how_a_judge_is_made_of_them(tmp_path: Path) -> None:
    bare, adapter, encoder = (tmp_path / name for name in ("bare", "adapter", "encoder"))
    for folder in (bare, adapter, encoder):
        folder.mkdir()
    (bare / "config.json").write_text('{"model_type": "qwen3"}')
    assert refusal(bare) == (
        f"this is a bare model (qwen3). Make a judge of it: goodrate train judge_sft --set model={bare} "
        "--set data.catalog=... --set data.judgements=... --out DIR"
    )
    (bare / "config.json").write_text("[")
    assert refusal(bare).startswith("this is a bare model (unknown). ")
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "Qwen/Qwen3-0.6B"}')
    told = refusal(adapter)
    assert told.startswith("this is a PEFT adapter over Qwen/Qwen3-0.6B, which does not say how a judge reads")
    assert "goodrate train judge_sft --set model=Qwen/Qwen3-0.6B --set lora.rank=16" in told
    assert told.endswith(
        "write its judge.json with goodrate.relevance.lm_judge.write_lm_card, and the folder is a judge"
    )
    (encoder / "config.json").write_text('{"model_type": "bert"}')
    (encoder / "modules.json").write_text("[]")
    assert refusal(encoder).startswith(
        f"this is a text encoder. Make a judge of its cosine: goodrate train judge_encoder --set encoder={encoder} "
    )


def test_a_judge_of_another_kind_is_no_language_model(tmp_path: Path) -> None:
    write_judge_card(tmp_path, human_judge.Card(scale="esci"))
    with pytest.raises(ValueError, match="is a judge of kind 'human', not a language model"):
        LmJudge.load(tmp_path)

"""goodrate train: settings, data and its split, the dev table's numbers, messages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
import torch
from pydantic import BaseModel

from goodrate import settings
from goodrate.api.training import run_from_settings, settings_with_data
from goodrate.catalog.splits import evenly
from goodrate.cli import train
from goodrate.examples.judge_prompts import judge_prompts
from goodrate.examples.settings import DataSettings
from goodrate.examples.sources import load_data
from goodrate.models.encoder import Encoder
from goodrate.recipes import registry
from goodrate.recipes.dev_table import agreement, halves
from goodrate.recipes.judge_runs import cited_book
from goodrate.recipes.registry import TrainingResult, write_rows
from goodrate.recipes.retriever_runs import good_items, positive_pairs, recalls
from goodrate.relevance.judge import open_judge
from goodrate.relevance.judge_card import read_judge_card
from goodrate.relevance.judge_format import JudgeFormat
from goodrate.relevance.pairs import JudgedPair, gold_labels, item_texts, text_item
from goodrate.relevance.rulebook import DEFAULT_RULES, load_rulebook
from goodrate.relevance.tuning import tune
from goodrate.shop.shop import ShopSettings
from tiny_models import causal_lm, tokenizer_file

CONFIGS = Path(__file__).parents[1] / "configs"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from goodrate.cli import main; main()", "train", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def trained(
    recipe: str, given: list[str], out: Path, progress: Callable[[dict], object] = lambda record: None
) -> TrainingResult:
    """The recipe run with these settings, in this process."""
    return run_from_settings(recipe, settings.load(settings_with_data(recipe), None, given), out, progress)


@pytest.fixture
def own_files(tmp_path: Path) -> dict[str, str]:
    """20 queries in 10 pairs of near-identical ones, two items each; one judged item is not in the catalogue."""
    nouns = ["lamp", "kettle", "chair", "sofa", "spoon", "tent", "radio", "glove", "scarf", "clock"]
    queries = [f"{colour} {noun} {number}" for noun in nouns for colour, number in (("red", 1), ("red", 2))]
    rows = [(query, f"i{n}", "related" if n else "excellent") for query in queries for n in (0, 1)]
    pl.DataFrame(
        [*rows, ("red lamp 1", "gone", "mismatch")], schema=["query", "item_id", "label"], orient="row"
    ).write_csv(tmp_path / "labels.csv")
    pl.DataFrame({"id": ["i0", "i1"], "title": ["Lamp", "Kettle"]}).write_csv(tmp_path / "items.csv")
    return {"catalog": str(tmp_path / "items.csv"), "judgements": str(tmp_path / "labels.csv")}


def test_own_labels_are_split_by_query_group(own_files: dict[str, str]) -> None:
    data = load_data(DataSettings(**own_files, dev_share=0.2, test_share=0.2))
    queries = {part: set(judgements.queries()) for part, judgements in data.parts.items()}
    # 20 queries: 60, 20 and 20 per cent, in groups of two that no part shares
    assert {part: len(texts) for part, texts in queries.items()} == {"train": 12, "dev": 4, "test": 4}
    groups = {part: {text[:-2] for text in texts} for part, texts in queries.items()}
    assert not groups["train"] & groups["dev"] and not groups["train"] & groups["test"]
    assert "1 judged items are not in the catalogue" in data.notes[0]


def test_a_shop_reads_no_own_files() -> None:
    for name, value in {"behaviour": "clicks.csv", "facts": "facts.jsonl", "dev_share": 0.3, "scale": "esci"}.items():
        with pytest.raises(ValueError, match=f"data.{name} is about own files"):
            DataSettings(shop=ShopSettings(items=300, queries=60), **{name: value})


def test_pairs_carry_text_and_label(own_files: dict[str, str]) -> None:
    data = load_data(DataSettings(**own_files))
    pairs = data.pairs("train")
    texts = item_texts([pair.item for pair in pairs], "listing")
    assert {(text, pair.label) for text, pair in zip(texts, pairs, strict=True)} == {("Lamp", 3), ("Kettle", 2)}
    assert all(pair.reason is None for pair in pairs)


def test_a_judge_is_trained_measured_and_not_resumed_on_other_data(own_files: dict[str, str], tmp_path: Path) -> None:
    torch.set_num_threads(1)
    causal_lm().save(tmp_path / "base")
    given = ["fit.updates=2", "batch_size=4", f"model={tmp_path / 'base'}"]
    given += [f"data.{name}={path}" for name, path in own_files.items()]
    updates: list[dict] = []
    outcome = trained("judge_sft", given, tmp_path / "run", updates.append)
    assert len(updates) == 2 and read_judge_card(outcome.folder).scale == "four_level"
    # two queries for dev, each with an excellent and a related item: a constant is right once in two
    constant = outcome.rows["always related"]
    assert (constant["accuracy"], constant["pairs"], set(outcome.rows)) == (0.5, 4, {"judge", "always related"})
    assert constant["tier_accuracy"] == 1  # both labels are Good: a constant tier is always right here
    assert any("not set: dev has one group of queries" in note for note in outcome.notes)
    with pytest.raises(ValueError, match="holds another run"):
        trained("judge_sft", [*given, "data.split_seed=1"], tmp_path / "run")


def test_a_judge_is_tuned_on_one_half_of_the_dev_queries_and_measured_on_the_other(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    causal_lm().save(tmp_path / "base")
    given = ["fit.updates=12", "batch_size=8", f"model={tmp_path / 'base'}", "format.max_new_tokens=64"]
    given += ["learning_rate=1e-2", "label_weight=20"]  # enough to learn how frequent each label is
    given += ["data.shop.items=300", "data.shop.queries=200", "data.shop.judged=8"]
    outcome = trained("judge_sft", given, tmp_path / "run")
    card = read_judge_card(outcome.folder)
    assert card.rule_book_hash == load_rulebook().hash  # the reasons of a shop can be checked
    data = load_data(DataSettings(shop=ShopSettings(items=300, queries=200, judged=8)))
    tuning, measuring = halves(data.pairs("dev"), 0)
    assert not {p.query for p in tuning} & {p.query for p in measuring} and len(tuning) + len(measuring) == 20 * 8
    expected = tune(open_judge(outcome.folder), tuning, gold_labels(tuning))
    assert card.temperature == pytest.approx(expected.temperature, rel=0.05) != 1.0
    assert card.beta_cum == 0.5 and card.previous == {"temperature": 1.0, "beta_cum": 0.5}
    on = f"set on {len(tuning)} pairs of 10 queries; tier threshold (beta_cum) stays 0.50: it takes 200 pairs"
    assert any(on in note for note in outcome.notes) and on in card.tuning
    assert outcome.rows["judge"]["pairs"] == len(measuring)


def test_the_rule_book_is_checked_before_training(own_files: dict[str, str]) -> None:
    labels = load_data(DataSettings(**own_files))
    reasons = load_data(DataSettings(shop=ShopSettings(items=300, queries=30, judged=8)))
    own, shipped = CONFIGS.parent / "examples" / "rules.toml", load_rulebook().hash
    assert cited_book(JudgeFormat(), labels) == "" and cited_book(JudgeFormat(), reasons) == shipped
    assert cited_book(JudgeFormat(rule_book=own), labels) == load_rulebook(own).hash != shipped
    assert cited_book(JudgeFormat(rule_book=DEFAULT_RULES), reasons) == shipped
    with pytest.raises(ValueError, match=f"the book of the shop's reasons {shipped}"):
        cited_book(JudgeFormat(rule_book=own), reasons)
    with pytest.raises(ValueError, match="format.rule_book_hash 123456789abc"):
        cited_book(JudgeFormat(rule_book=own, rule_book_hash="123456789abc"), labels)


def test_long_items_are_cut_in_training_as_in_judging() -> None:
    from goodrate.recipes import judge_sft
    from goodrate.relevance.prompts import PromptFields, fitted_prompt

    model = causal_lm()  # takes 256 tokens
    recipe = judge_sft.Settings(model="none", format={"max_new_tokens": 100})
    long, short = (JudgedPair("lamp", text_item(text), label=3) for text in ("steel " * 400, "steel"))
    endless = JudgedPair("lamp " * 400, text_item("steel"), label=3)

    def examples(*pairs: JudgedPair, max_tokens: int | None = recipe.max_tokens) -> tuple:
        return judge_prompts(model, pairs, recipe.format, max_tokens, label_completions=True)

    prompts, lost = examples(long, short, endless)
    # a hundred tokens and a stop token are kept free for the answer: 256 - 101 = 155
    judged, cut = fitted_prompt(model, PromptFields("lamp", "steel " * 400), recipe.format.template, 155)
    assert cut and [(e.prefix, e.suffix) for e in prompts][0] == judged and len(prompts) == 2
    cut_note, refused_note = lost
    assert cut_note == "1 training item texts were too long and lost their end"
    assert refused_note == "1 training pairs left out: no room for an item"
    (narrow,), _ = examples(long, max_tokens=60)
    assert len(model.encode_pair(narrow.prefix, narrow.suffix) + model.encode(narrow.completion)) < 60


def test_a_shop_brings_its_split_and_its_reasons() -> None:
    data = load_data(DataSettings(shop=ShopSettings(items=300, queries=30, judged=8)))
    # a tenth of 30 queries for dev, a fifth for test
    assert {part: len(judgements.queries()) for part, judgements in data.parts.items()} == {
        "train": 21,
        "dev": 3,
        "test": 6,
    }
    pairs = data.pairs("dev")
    assert len(pairs) == 3 * 8 and all(pair.reason and pair.reason.label == pair.label for pair in pairs)


@pytest.mark.parametrize(
    "given",
    [
        {}, {"catalog": "a.csv"}, {"index": "i"}, {"judgements": "b.csv"},
        {"catalog": "a", "judgements": "b", "shop": ShopSettings()}, {"catalog": "a", "shop": ShopSettings()},
        {"index": "i", "judgements": "b", "shop_folder": "s"}, {"catalog": "a", "index": "i", "judgements": "b"},
        {"shop": ShopSettings(), "shop_folder": "s"}, {"judgements": "b", "shop": ShopSettings()},
    ],
)  # fmt: skip
def test_data_is_own_files_or_an_index_or_a_shop(given: dict) -> None:
    with pytest.raises(ValueError, match=r"data\.catalog or data\.index with data\.judgements, or data\.shop"):
        DataSettings(**given)


def test_an_index_stands_in_the_place_of_the_catalogue(own_files: dict[str, str], tmp_path: Path) -> None:
    from goodrate.catalog.readers import read_catalog
    from goodrate.retrieval.store import Store

    Store.create(tmp_path / "index", None, None).upsert(read_catalog(own_files["catalog"]), None)
    files = load_data(DataSettings(**own_files))
    index = load_data(DataSettings(index=str(tmp_path / "index"), judgements=own_files["judgements"]))
    for part in ("train", "dev", "test"):
        assert index.pairs(part) == files.pairs(part)
    assert index.catalog.text() == files.catalog.text()
    assert index.notes == tuple(note for note in files.notes if note not in files.catalog.notes)
    with pytest.raises(ValueError, match=r"data.catalog_map is about data.catalog, which is not named"):
        DataSettings(index="i", judgements="b", catalog_map={"id": "sku"})
    with pytest.raises(FileNotFoundError, match="no index in"):
        load_data(DataSettings(index=str(tmp_path / "absent"), judgements=own_files["judgements"]))


def test_recipe_settings_and_data_are_one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain(BaseModel):
        learning_rate: float = 1.0

    monkeypatch.setattr(registry, "get_recipe", lambda name: registry.Recipe(Plain, pytest.fail))
    both = settings_with_data("plain")
    loaded = settings.load(both, None, ["learning_rate=2", "data.shop.items=300"])
    assert (loaded.learning_rate, loaded.data.shop.items) == (2.0, 300)
    with pytest.raises(ValueError, match=r"did you mean 'data\.shop\.items'"):
        settings.load(both, None, ["data.shop.itms=300"])


def test_unknown_recipes_and_settings_name_the_nearest(tmp_path: Path) -> None:
    ended = run("judge_stf", "--out", str(tmp_path))
    assert ended.returncode == 2 and "did you mean 'judge_sft'?" in ended.stderr


def test_facts_come_from_the_book(own_files: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "facts.jsonl").write_text('{"name": "red lamp", "fact": "red lamp : price 40"}\n', encoding="utf-8")
    data = load_data(DataSettings(**own_files, facts=str(tmp_path / "facts.jsonl")))
    assert data.facts["red lamp 1"] == "red lamp : price 40" and data.facts["red tent 1"] == ""
    with pytest.raises(FileNotFoundError, match=r"absent\.jsonl"):
        load_data(DataSettings(**own_files, facts="absent.jsonl"))


def test_base_config_is_valid_and_its_run_asks_for_settings_that_exist(tmp_path: Path) -> None:
    loaded = settings.load(settings_with_data("base"), CONFIGS / "base.toml")
    assert (loaded.network.hidden, loaded.fit.seconds) == (192, 3600)
    ended = run("base", "--out", str(tmp_path / "run"), "--set", "fit.secnds=3")
    assert ended.returncode == 2 and "did you mean 'fit.seconds'?" in ended.stderr and not (tmp_path / "run").exists()


def test_a_written_shop_is_the_shop_of_its_settings(tmp_path: Path) -> None:
    (tmp_path / "shop.json").write_text('{"settings": {"items": 300, "queries": 30, "judged": 8}}', encoding="utf-8")
    written = load_data(DataSettings(shop_folder=str(tmp_path)))
    generated = load_data(DataSettings(shop=ShopSettings(items=300, queries=30, judged=8)))
    assert written.pairs("dev") == generated.pairs("dev")
    (tmp_path / "shop.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"shop\.json is not what goodrate shop writes"):
        load_data(DataSettings(shop_folder=str(tmp_path)))


def test_agreement_by_hand() -> None:
    import numpy as np

    from goodrate.relevance.label_choice import FAILED, chosen_labels
    from goodrate.scale import FOUR_LEVEL

    nan = float("nan")
    probabilities = np.array([[0.1, 0.9, 0, 0], [nan] * 4, [0, 0, 0.4, 0.6], [0, 0, 0.6, 0.4]])
    predicted = chosen_labels(probabilities)
    assert predicted.tolist() == [1, FAILED, 3, 2]
    numbers = agreement(np.array([1, 0, 3, 3]), predicted, FOUR_LEVEL)
    # 2 of 4 right; F1 of label 0: 0 (the failure is no hit), of 1: 1, of 3: precision 1, recall 1/2, so 2/3
    assert numbers == pytest.approx({"accuracy": 0.5, "macro_f1": (0 + 1 + 2 / 3) / 3, "failed": 1, "pairs": 4})
    constant = agreement(np.array([0, 0, 0, 1]), np.zeros(4, dtype=int), FOUR_LEVEL)
    assert constant["macro_f1"] == pytest.approx((2 * 0.75 * 1 / 1.75 + 0) / 2)


def test_spread_takes_from_the_whole_list() -> None:
    assert evenly(list(range(100)), 5) == [0, 25, 50, 74, 99]
    assert evenly([1, 2], 5) == [1, 2]


def test_clicks_become_pairs_that_no_held_out_query_has(own_files: dict[str, str], tmp_path: Path) -> None:
    held_out = load_data(DataSettings(**own_files)).parts["dev"].queries()
    query = next(iter(held_out.values()))
    clicks = [("Velto mug", "i0", "3"), ("velto mug", "i0", "1"), ("velto mug", "i0", "1"), ("velto mug", "gone", "1")]
    clicks += [(query, "i0", "9"), (f"{query[:-1]}7", "i1", "9")]  # a dev query, and one that differs by its number
    pl.DataFrame(clicks, schema=["query", "item_id", "weight"], orient="row").write_csv(tmp_path / "clicks.csv")
    data = load_data(DataSettings(**own_files, behaviour=str(tmp_path / "clicks.csv")))
    assert data.clicks == [("Velto mug", "i0", 3.0), ("velto mug", "i0", 2.0)]
    assert "2 of 5 clicked pairs are used" in data.notes[-1]
    pairs, known = positive_pairs(data, "clicks")
    assert [pair.weight for pair in pairs] == [3 / 2.5, 2 / 2.5] and known["velto mug"] == {"i0"}
    judged, good = positive_pairs(data, "judgements")
    both, all_known = positive_pairs(data, "both")
    assert both == [*judged, *pairs] and all_known == {**good, "Velto mug": {"i0"}, "velto mug": {"i0"}}
    with pytest.raises(ValueError, match="needs data.behaviour"):
        positive_pairs(load_data(DataSettings(**own_files)), "both")


@pytest.mark.parametrize(
    ("row", "told"),
    [("lamp,i0,0", "row 3, column weight: expected a number above 0"), (",i0,1", "row 3, column query: expected")],
)
def test_bad_clicks_are_named(own_files: dict[str, str], tmp_path: Path, row: str, told: str) -> None:
    path = tmp_path / "clicks.csv"
    path.write_text(f"query,item_id,weight\nvelto mug,i0,2\n{row}\n")
    with pytest.raises(ValueError, match=f"clicks.csv.*{told}"):
        load_data(DataSettings(**own_files, behaviour=str(path)))
    data = load_data(DataSettings(**own_files, behaviour=str(path), skip_bad=1))
    assert data.clicks == [("velto mug", "i0", 2.0)] and "1 bad rows skipped" in data.notes[-1]
    path.write_text("term,item_id\nlamp,i0\nlamp,i0\n")
    with pytest.raises(ValueError, match="has no column 'query'"):
        load_data(DataSettings(**own_files, behaviour=str(path)))
    mapped = DataSettings(**own_files, behaviour=str(path), behaviour_map={"query": "term"})
    assert load_data(mapped).clicks == [("lamp", "i0", 2.0)]


def test_a_retriever_learns_from_clicks_of_a_shop_with_mined_negatives(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    Encoder.create(tokenizer_file(tmp_path), hidden=16, layers=1, heads=2).save(tmp_path / "start")
    given = [f"encoder={tmp_path / 'start'}", "fit.updates=2", "batch_size=8", "pairs=clicks", "matryoshka=[4]"]
    given += ["hard_negatives.source=lexical", "data.shop.items=300", "data.shop.queries=60", "data.shop.judged=8"]
    seen: list[dict] = []
    outcome = trained("retriever_contrastive", given, tmp_path / "run", seen.append)
    assert len(seen) == 2 and {"info_nce", "info_nce@4"} <= seen[0].keys()
    assert Encoder.load(outcome.folder, longest=4).dimension == 4 and (tmp_path / "run" / "words").is_dir()


def test_a_retriever_without_good_dev_items_binds_no_folder(tmp_path: Path) -> None:
    Encoder.create(tokenizer_file(tmp_path), hidden=16, layers=1, heads=2).save(tmp_path / "start")
    (tmp_path / "items.csv").write_text("id,title\ni0,lamp\n")
    nouns = ["lamp", "kettle", "chair", "sofa", "spoon", "tent", "radio", "glove", "scarf", "clock"]
    files = {"catalog": str(tmp_path / "items.csv"), "judgements": str(tmp_path / "labels.csv")}
    (tmp_path / "labels.csv").write_text("query,item_id,label\n" + "".join(f"{noun},i0,related\n" for noun in nouns))
    dev = load_data(DataSettings(**files)).parts["dev"].queries().values()
    rows = "".join(f"{noun},i0,{'mismatch' if noun in dev else 'related'}\n" for noun in nouns)
    (tmp_path / "labels.csv").write_text("query,item_id,label\n" + rows)
    given = [f"encoder={tmp_path / 'start'}", *(f"data.{name}={path}" for name, path in files.items())]
    with pytest.raises(ValueError, match="no dev query has a good item"):
        trained("retriever_contrastive", given, tmp_path / "run")
    assert not (tmp_path / "run" / "data" / "settings.toml").exists()


def test_recall_by_hand(own_files: dict[str, str]) -> None:
    import numpy as np

    data = load_data(DataSettings(**own_files))
    assert all(good == {"i0", "i1"} for good in good_items(data.parts["train"]).values())

    class Fixed:
        """Items are one-hot; a query scores them by its own numbers."""

        def encode_items(self, texts: list[str]) -> np.ndarray:
            return np.eye(len(texts))

        def encode_queries(self, texts: list[str]) -> np.ndarray:
            return np.stack([np.arange(20) * (1 if text == "up" else -1) for text in texts])

    items = {f"i{n:02d}": "" for n in range(20)}
    shares = recalls(Fixed(), items, {"up": {"i19", "i00"}, "down": {"i00"}})  # type: ignore[arg-type]
    # top 10 of "up" are i19 .. i10: 1 of 2; of "down" i00 .. i09: 1 of 1; all 20 are within 50
    assert shares == {"recall@10": 0.75, "recall@50": 1.0, "queries": 2.0}


@pytest.mark.parametrize(
    "name",
    [
        "judge_sft",
        "judge_dpo",
        "judge_grpo",
        "judge_guided",
        "judge_stepwise",
        "judge_curriculum",
        "step_judge",
        "taosr1",
        "retriever_contrastive",
        "retriever_grpo",
    ],
)
def test_shipped_configs_are_valid(name: str) -> None:
    loaded = settings.load(settings_with_data(name), CONFIGS / f"{name}.toml")
    assert loaded.data.shop == ShopSettings(seed=0, items=5000, queries=2000)


def test_what_a_run_may_resume_with_is_known_by_name() -> None:
    """Every setting that says it is about memory and speed is in the list, and nothing in the list is unknown."""
    said, known = set(), set()
    for name in registry.RECIPES:
        for key, description in described(registry.get_recipe(name).settings):
            known.add(key)
            said |= {key} if "memory and speed only" in description else set()
    assert "micro_tokens" in said <= settings.MEMORY_AND_SPEED <= known


def described(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """The settings of a model and of its sections by their own name, with their descriptions."""
    for name, field in model.model_fields.items():
        yield name, field.description or ""
        section = settings._section(field.annotation)
        if section is not None:
            yield from described(section)


def test_the_verb_lists_the_recipes_that_there_are() -> None:
    assert list(train.RECIPES) == list(registry.RECIPES)
    for name in train.RECIPES:
        assert callable(registry.get_recipe(name).run)


def test_rows_may_have_other_columns_and_no_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    rows = {"checks": {"precision": 0.5, "recall": float("nan")}, "first error": {"found": 0.25, "rollouts": 1200.0}}
    write_rows(tmp_path, rows)
    kept = json.loads((tmp_path / "dev.json").read_text(), parse_constant=pytest.fail)  # NaN is not JSON
    assert kept["checks"] == {"precision": 0.5, "recall": None} and kept["first error"] == rows["first error"]
    train.report(TrainingResult(tmp_path, rows))
    _, head, first, second = (line.split() for line in capsys.readouterr().out.splitlines())
    assert head == ["precision", "recall", "found", "rollouts"]
    assert first == ["checks", "0.500", "-", "-", "-"]
    assert second == ["first", "error", "-", "-", "0.250", "1,200"]


def test_a_step_judge_without_numbers_says_why() -> None:
    from goodrate.recipes.step_judge import StepScores
    from goodrate.recipes.step_judge_run import unmeasured

    assert unmeasured(StepScores({}, {}, 0.5, rollouts=3, readable=4), 9) == []
    assert "steps of none of 9 rollouts" in unmeasured(StepScores({}, {}, 0.5, rollouts=0, readable=0), 9)[0]
    assert "no verdict on 4 rollouts" in unmeasured(StepScores({}, {}, 0.5, rollouts=0, readable=4), 9)[0]

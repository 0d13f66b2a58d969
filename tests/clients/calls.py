"""What the packages that call such servers do with ours: one call each, over HTTP, with what it must give.

This file needs none of goodrate: it runs in the environment of the clients. `python calls.py URL` makes every call and
prints JSON lines (client, version, call, result); a package that is not installed is told as such.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

QUERY = "shoes"
DOCUMENTS = ["a kettle", "Trail shoes", "Road shoes"]
BEST, SCORE = [2, 1, 0], 6.2 / 7  # the order of DOCUMENTS, and what the best one gets (tests/serving_shop.py)
DIMENSION = 3


@dataclass(frozen=True)
class Call:
    """client: the distribution whose version is told. does: what is called. run: (URL of the server) -> what came."""

    client: str
    does: str
    run: Callable[[str], str]

    @property
    def version(self) -> str | None:
        """Of the installed package; None where there is none."""
        try:
            return importlib.metadata.version(self.client)
        except importlib.metadata.PackageNotFoundError:
            return None


def ranked(order: list[int], score: float) -> str:
    """The result of a reranker, when it is the right one."""
    assert order == BEST and abs(score - SCORE) < 1e-6, (order, score)
    return "order and scores"


def vector(found: Any) -> str:
    """The result of an embedder, when its length is right and it is normalised."""
    numbers = [float(one) for one in found]
    assert len(numbers) == DIMENSION and abs(sum(x * x for x in numbers) - 1) < 1e-5, numbers
    return f"vectors of {DIMENSION} floats"


def cohere_rerank(url: str) -> str:
    import cohere

    answer = cohere.ClientV2(api_key="none", base_url=url).rerank(model="any", query=QUERY, documents=DOCUMENTS)
    assert answer.meta and answer.meta.api_version and answer.meta.api_version.version == "2"
    return ranked([one.index for one in answer.results], answer.results[0].relevance_score)


def cohere_rerank_v1(url: str) -> str:
    import cohere

    client = cohere.Client(api_key="none", base_url=url)
    answer = client.rerank(model="any", query=QUERY, documents=DOCUMENTS, top_n=3, return_documents=True)
    assert answer.results[0].document and answer.results[0].document.text == DOCUMENTS[BEST[0]]
    return ranked([one.index for one in answer.results], answer.results[0].relevance_score)


def cohere_embed(url: str) -> str:
    import cohere

    client = cohere.ClientV2(api_key="none", base_url=url)
    answer = client.embed(model="any", texts=["tea"], input_type="search_query", embedding_types=["float"])
    return vector((answer.embeddings.float_ or [[]])[0])


def cohere_models(url: str) -> str:
    import cohere

    names = [model.name for model in cohere.Client(api_key="none", base_url=url).models.list().models]
    assert "fake" in names, names
    return "names of judge and encoder"


def langchain_cohere_rerank(url: str) -> str:
    import cohere
    from langchain_cohere import CohereRerank

    reranker = CohereRerank(client=cohere.ClientV2(api_key="none", base_url=url), model="any", top_n=3)
    found = reranker.rerank(DOCUMENTS, QUERY)
    return ranked([one["index"] for one in found], found[0]["relevance_score"])


def langchain_jina_rerank(url: str) -> str:
    from langchain_community.document_compressors import jina_rerank

    jina_rerank.JINA_API_URL = f"{url}/v1/rerank"  # it has no option for it
    found = jina_rerank.JinaRerank(jina_api_key="none", top_n=3).rerank(DOCUMENTS, QUERY)
    return ranked([one["index"] for one in found], found[0]["relevance_score"])


def langchain_jina_embeddings(url: str) -> str:
    from langchain_community.embeddings import jina

    jina.JINA_API_URL = f"{url}/v1/embeddings"  # it has no option for it
    return vector(jina.JinaEmbeddings(jina_api_key="none", session=None).embed_query("tea"))


def langchain_openai_embeddings(url: str) -> str:
    from langchain_openai import OpenAIEmbeddings

    # without check_embedding_ctx_length=False it sends token ids of another model
    made = OpenAIEmbeddings(base_url=f"{url}/v1", api_key="none", model="any", check_embedding_ctx_length=False)
    return vector(made.embed_query("tea"))


def llama_index_nodes() -> list[Any]:
    from llama_index.core.schema import NodeWithScore, TextNode

    return [NodeWithScore(node=TextNode(text=text, id_=str(i)), score=0.0) for i, text in enumerate(DOCUMENTS)]


def llama_index_ranked(reranker: Any) -> str:
    found = reranker.postprocess_nodes(llama_index_nodes(), query_str=QUERY)
    return ranked([int(one.node.node_id) for one in found], float(found[0].score))


def llama_index_cohere(url: str) -> str:
    from llama_index.postprocessor.cohere_rerank import CohereRerank

    return llama_index_ranked(CohereRerank(api_key="none", base_url=url, top_n=3, model="any"))


def llama_index_jina(url: str) -> str:
    from llama_index.postprocessor.jinaai_rerank import JinaRerank

    return llama_index_ranked(JinaRerank(api_key="none", base_url=f"{url}/v1", top_n=3))


def llama_index_tei(url: str) -> str:
    from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

    return llama_index_ranked(TextEmbeddingInference(base_url=url, top_n=3))


def llama_index_tei_embeddings(url: str) -> str:
    from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference

    return vector(TextEmbeddingsInference(model_name="any", base_url=url).get_query_embedding("tea"))


def haystack_ranked(ranker: Any) -> str:
    from haystack import Document

    if hasattr(ranker, "warm_up"):
        ranker.warm_up()
    documents = [Document(id=str(i), content=text) for i, text in enumerate(DOCUMENTS)]
    found = ranker.run(query=QUERY, documents=documents)["documents"]
    return ranked([int(one.id) for one in found], float(found[0].score))


def haystack_cohere(url: str) -> str:
    from haystack.utils import Secret
    from haystack_integrations.components.rankers.cohere import CohereRanker

    return haystack_ranked(CohereRanker(model="any", api_key=Secret.from_token("none"), api_base_url=url))


def haystack_jina(url: str) -> str:
    from haystack.utils import Secret
    from haystack_integrations.components.rankers.jina import JinaRanker

    return haystack_ranked(JinaRanker(api_key=Secret.from_token("none"), base_url=f"{url}/v1/rerank"))


def haystack_tei(url: str) -> str:
    from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker

    return haystack_ranked(HuggingFaceTEIRanker(url=url, top_k=3))


def haystack_jina_embedder(url: str) -> str:
    from haystack.utils import Secret
    from haystack_integrations.components.embedders.jina import JinaTextEmbedder

    made = JinaTextEmbedder(
        api_key=Secret.from_token("none"), base_url=f"{url}/v1/embeddings", task="retrieval.query"
    )  # fmt: skip
    return vector(made.run("tea")["embedding"])


def openai_embeddings(url: str) -> str:
    from openai import OpenAI

    client = OpenAI(base_url=f"{url}/v1", api_key="none")
    answer = client.embeddings.create(model="any", input=["tea", "a kettle"])  # it asks for base64 unless told not to
    assert len(answer.data) == 2 and answer.usage.total_tokens == 3
    return vector(answer.data[0].embedding)


def openai_models(url: str) -> str:
    from openai import OpenAI

    names = [model.id for model in OpenAI(base_url=f"{url}/v1", api_key="none").models.list()]
    assert "fake" in names, names
    return "names of judge and encoder"


def hub_embeddings(url: str) -> str:
    from huggingface_hub import InferenceClient

    return vector(InferenceClient(model=url).feature_extraction("tea")[0])


def litellm_rerank(provider: str, path: str) -> Callable[[str], str]:
    def run(url: str) -> str:
        import litellm

        base = f"{url}{path}"
        found = litellm.rerank(
            model=f"{provider}/any", query=QUERY, documents=DOCUMENTS, top_n=3, api_base=base, api_key="none"
        ).results
        return ranked([one["index"] for one in found], found[0]["relevance_score"])

    return run


CALLS = (
    Call("cohere", "ClientV2.rerank", cohere_rerank),
    Call("cohere", "Client.rerank", cohere_rerank_v1),
    Call("cohere", "ClientV2.embed", cohere_embed),
    Call("cohere", "Client.models.list", cohere_models),
    Call("langchain-cohere", "CohereRerank.rerank", langchain_cohere_rerank),
    Call("langchain-community", "JinaRerank.rerank", langchain_jina_rerank),
    Call("langchain-community", "JinaEmbeddings.embed_query", langchain_jina_embeddings),
    Call("langchain-openai", "OpenAIEmbeddings.embed_query", langchain_openai_embeddings),
    Call("llama-index-postprocessor-cohere-rerank", "CohereRerank", llama_index_cohere),
    Call("llama-index-postprocessor-jinaai-rerank", "JinaRerank", llama_index_jina),
    Call("llama-index-postprocessor-tei-rerank", "TextEmbeddingInference", llama_index_tei),
    Call("llama-index-embeddings-text-embeddings-inference", "TextEmbeddingsInference", llama_index_tei_embeddings),
    Call("cohere-haystack", "CohereRanker.run", haystack_cohere),
    Call("jina-haystack", "JinaRanker.run", haystack_jina),
    Call("jina-haystack", "JinaTextEmbedder.run", haystack_jina_embedder),
    Call("huggingface-api-haystack", "HuggingFaceTEIRanker.run", haystack_tei),
    Call("huggingface_hub", "InferenceClient.feature_extraction", hub_embeddings),
    Call("openai", "OpenAI.embeddings.create", openai_embeddings),
    Call("openai", "OpenAI.models.list", openai_models),
    Call("litellm", "rerank of hosted_vllm", litellm_rerank("hosted_vllm", "")),
    Call("litellm", "rerank of jina_ai", litellm_rerank("jina_ai", "")),
    Call("litellm", "rerank of cohere", litellm_rerank("cohere", "")),
)


def main(url: str) -> None:
    """Make every call and print what came, a JSON object a line."""
    for call in CALLS:
        try:
            result = call.run(url) if call.version else "not installed"
        except Exception as error:  # whatever a package does is a result of this table
            result = f"fails: {type(error).__name__}: {str(error)[:200]}"
        print(json.dumps({"client": call.client, "version": call.version, "call": call.does, "result": result}))


if __name__ == "__main__":
    main(sys.argv[1])

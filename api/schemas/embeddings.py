"""Embeddings on the wire, as OpenAI has them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from api.schemas.base import Body, Many, Object, One, OneOrMany, Text


class CreateEmbeddings(Body):
    """Texts to embed with a base model."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"model": "minilm", "input": ["Where is my card?"]}]})

    input: Annotated[Annotated[Text, One] | Annotated[list[Text], Field(fail_fast=True), Many], OneOrMany] = Field(
        description="A text or several."
    )
    model: str | None = Field(
        None, description="A base model; `minilm` if none is given.", min_length=1, max_length=128
    )
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="Numbers, or little-endian float32 in base64."
    )
    dimensions: int | None = Field(None, description="Accepted when it is the base model's own width.", ge=1)
    user: str | None = Field(None, description="Accepted and ignored.")


class EmbeddingUsage(Object):
    """The cost of the request."""

    prompt_tokens: int = Field(description="Tokens of the texts.")
    total_tokens: int = Field(description="The same number.")


class EmbeddingObject(Object):
    """One text's embedding: numbers, or little-endian float32 in base64."""

    object: Literal["embedding"] = "embedding"
    index: int = Field(description="Which text, from 0.")
    embedding: list[float] | str = Field(description="Numbers, or base64 where it was asked for.")


class EmbeddingList(Object):
    """The embeddings, in the order of the texts."""

    object: Literal["list"] = "list"
    model: str = Field(description="The base model.")
    data: list[EmbeddingObject] = Field(description="One entry per text.")
    truncated: list[int] = Field(
        description="Texts, from 0, of more than 8,192 tokens: their vectors are of what comes before. Other texts "
        "that are longer than the base's input are read in windows; their vector is the mean of all tokens."
    )
    usage: EmbeddingUsage = Field(description="What the request cost.")

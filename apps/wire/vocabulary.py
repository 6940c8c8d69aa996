"""Tokens in place of text: ids of the vocabulary of the very model that is asked."""

from __future__ import annotations

from typing import Any

from apps.core.errors import Unprocessable
from apps.wire.ceilings import inputs


def check_tokens(given: Any, vocabulary_tokens: int, *, param: str) -> None:
    """Refuse the first id that the model has no token for. `given` is a text, texts, tokens or lists of tokens.

    Another model's ids are the usual cause. Engines differ in what they do with them: some read past their table of
    vectors. 0 means that the size is not known and the engine judges.
    """
    if not vocabulary_tokens:
        return
    for number, item in enumerate(inputs(given)):
        if isinstance(item, list) and max(item) >= vocabulary_tokens:
            place = next(at for at, token in enumerate(item) if token >= vocabulary_tokens)
            raise Unprocessable(
                f"This model has no token {item[place]}: its vocabulary has {vocabulary_tokens:,}, counted from 0. "
                "Send ids of its own tokenizer, or text.",
                param=f"{param}[{number}][{place}]" if isinstance(given[0], list) else f"{param}[{place}]",
                code="token_out_of_vocabulary",
            )

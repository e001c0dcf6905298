"""The default settings on short texts: news, web search results, questions, titles, tweets.

    python benchmarks/texts.py --texts DIR [--rows words sentences] [--model MODEL]
        [--datasets agnews ...] [--seeds 0 1 2] [--methods ...]

DIR is a clone of rashadulrakib/short-text-clustering-enhancement (github): Rakib, Zeh, Jankowska,
Milios, "Enhancement of short text clustering by iterative classification", NLDB 2020. Of more than
4,000 texts a random choice is taken. Rows are `words`, TF-IDF with sublinear term frequency, of the
2,000 commonest words that are in three texts at least and in half of them at most, without texts
that have none of them, or `sentences`, embeddings of all texts by sentence-transformers; MODEL is
one of its models, or the folder of one. Every result is a line of `benchmarks/results/texts.jsonl`;
a run that was stopped goes on where it was.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from accuracy import asked_for, command_line, compile_peers, measure_missing, table
from machine import describe_machine
from resumable import Results
from sklearn.feature_extraction.text import TfidfVectorizer

# Each line of a file has the class, columns between tabs and the text; of `stackoverflow` and
# others, an empty column may follow.
_FILES = {
    "agnews": "agnewsdataraw-8000",
    "snippets": "search_snippets/search_snippets_true_text",
    "stackoverflow": "stackoverflow/stackoverflow_true_text",
    "biomedical": "biomedical/biomedical_true_text",
    "tweets": "tweet-original-order.txt",
}
_MOST_TEXTS, _MOST_WORDS = 4_000, 2_000


def load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Texts and their classes."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    columns = [line.rstrip("\t").split("\t") for line in lines if "\t" in line.rstrip("\t")]
    texts, y = np.array([[line[-1], line[0]] for line in columns], dtype=object).T
    if len(texts) > _MOST_TEXTS:
        kept = np.sort(np.random.default_rng(0).choice(len(texts), _MOST_TEXTS, replace=False))
        texts, y = texts[kept], y[kept]
    return texts, y.astype(str)


def words(texts: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """TF-IDF of the commonest words, and the numbers of the classes."""
    X = TfidfVectorizer(
        max_df=0.5, min_df=3, stop_words="english", sublinear_tf=True, max_features=_MOST_WORDS
    ).fit_transform(texts)
    has_words = np.diff(X.indptr) > 0
    _, y = np.unique(y[has_words], return_inverse=True)
    return X[has_words].toarray().astype(np.float32), y


def sentences(texts: np.ndarray, y: np.ndarray, model: str) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of the texts, and the numbers of the classes."""
    from sentence_transformers import SentenceTransformer

    X = SentenceTransformer(model, device="cpu").encode(list(texts), show_progress_bar=False)
    return X.astype(np.float32), np.unique(y, return_inverse=True)[1]


def main() -> None:
    """Run what is missing and print the table."""
    parser = command_line(__doc__.splitlines()[0], [0, 1, 2])
    parser.add_argument("--texts", type=Path, required=True, help="a clone of the collection")
    parser.add_argument("--datasets", nargs="+", choices=_FILES, default=list(_FILES))
    kinds = {"words": "", "sentences": ", sentences"}
    parser.add_argument("--rows", nargs="+", choices=kinds, default=["words"])
    parser.add_argument("--model", default="all-MiniLM-L6-v2", help="of sentence-transformers")
    arguments = parser.parse_args()
    print(describe_machine())
    compile_peers()
    results, names = Results("texts.jsonl"), []
    for kind in arguments.rows:
        for name in arguments.datasets:
            texts, y = load(arguments.texts / "data" / _FILES[name])
            X, y = words(texts, y) if kind == "words" else sentences(texts, y, arguments.model)
            names.append(name + kinds[kind])
            for _ in measure_missing(results, names[-1], X, y, arguments):
                pass
    arguments.datasets = names
    print(table(asked_for(results, arguments)))


if __name__ == "__main__":
    main()

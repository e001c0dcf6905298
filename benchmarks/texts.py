"""The default settings on short texts: news, web search results, questions, titles, tweets.

    python benchmarks/texts.py --texts DIR [--datasets agnews ...] [--seeds 0 1 2] [--methods ...]

DIR is a clone of rashadulrakib/short-text-clustering-enhancement (github): Rakib, Zeh, Jankowska,
Milios, "Enhancement of short text clustering by iterative classification", NLDB 2020. Of more than
4,000 texts a random choice is taken. Rows are TF-IDF with sublinear term frequency, of the 2,000
commonest words that are in three texts at least and in half of them at most; texts with none of
them are left out. Every result is a line of `benchmarks/results/texts.jsonl`; a run that was
stopped goes on where it was.
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
    """Rows and known classes of a file of texts."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    columns = [line.rstrip("\t").split("\t") for line in lines if "\t" in line.rstrip("\t")]
    texts, y = np.array([[line[-1], line[0]] for line in columns], dtype=object).T
    if len(texts) > _MOST_TEXTS:
        kept = np.sort(np.random.default_rng(0).choice(len(texts), _MOST_TEXTS, replace=False))
        texts, y = texts[kept], y[kept]
    X = TfidfVectorizer(
        max_df=0.5, min_df=3, stop_words="english", sublinear_tf=True, max_features=_MOST_WORDS
    ).fit_transform(texts)
    has_words = np.diff(X.indptr) > 0
    _, y = np.unique(y[has_words].astype(str), return_inverse=True)
    return X[has_words].toarray().astype(np.float32), y


def main() -> None:
    """Run what is missing and print the table."""
    parser = command_line(__doc__.splitlines()[0], [0, 1, 2])
    parser.add_argument("--texts", type=Path, required=True, help="a clone of the collection")
    parser.add_argument("--datasets", nargs="+", choices=_FILES, default=list(_FILES))
    arguments = parser.parse_args()
    print(describe_machine())
    compile_peers()
    results = Results("texts.jsonl")
    for name in arguments.datasets:
        X, y = load(arguments.texts / "data" / _FILES[name])
        for _ in measure_missing(results, name, X, y, arguments):
            pass
    print(table(asked_for(results, arguments)))


if __name__ == "__main__":
    main()

"""A case's source by its factors: `source=text`, `hmm:30`, `copy:32`; the user's corpus by its hash."""

from __future__ import annotations

from bench.harness import paths
from bench.harness.case import Case
from bench.studies.quality import text
from bench.studies.quality.copying import SHORTEST, Copies
from bench.studies.quality.hmm import HiddenMarkov
from bench.studies.quality.source import Source, number_of
from impls import UnknownName

NAMES = ("text", "hmm:<tokens a state stays>", "copy:<longest lag>")
CORPUS = "corpus"  # the factor that names a user's corpus, by the beginning of its hash


def of_case(case: Case, longest: int) -> Source:
    """longest: tokens of the longest window that will be asked for. Raises `UnknownName`, `InvalidCase`, `InvalidCorpus`."""
    name = str(case.factor("source"))
    rule = name.partition(":")[0]
    if rule == "hmm":
        return HiddenMarkov(number_of(name, 2))
    if rule == "copy":
        return Copies(number_of(name, SHORTEST))
    if name != "text":
        raise UnknownName("source", name, NAMES)
    wanted = dict(case.factors).get(CORPUS)
    return text.of_standard_library(longest) if wanted is None else _corpus(str(wanted), longest)


def _corpus(wanted: str, longest: int) -> text.Text:
    path = paths.here().corpus
    if path is None:
        raise text.InvalidCorpus(f"this case is of the corpus {wanted}, and none was named; name it with --corpus FILE")
    found = text.of_file(path, longest)
    if not found.digest.startswith(wanted):
        raise text.InvalidCorpus(
            f"this case is of the corpus {wanted}, and {path} has the hash {found.digest[: text.SHOWN]}; name the file it was"
        )
    return found

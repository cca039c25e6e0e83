"""What the page shows of a case whose scan may be another patient's."""

from collections.abc import Sequence

from fusion.identity import Disagreement
from ui.texts import Texts
from ui.views import esc


def whose_scan(disagreements: Sequence[Disagreement], texts: Texts) -> str:
    """The facts in which scan and record disagree; nothing where the case is not blocked."""
    if not disagreements:
        return ""
    lines = "".join(f"<p>{esc(_line(found, texts))}</p>" for found in disagreements)
    return f"<h3>{esc(texts('whose'))}</h3><p>{esc(texts('whose_lead'))}</p>{lines}"


def _line(found: Disagreement, texts: Texts) -> str:
    """One fact, in the reader's language."""
    record, header = (texts(f"sex.{sex}") for sex in (found.record, found.header))
    said = {"record": record, "header": header, "years": found.years_apart}
    return texts(f"whose.{found.fact}", **said)

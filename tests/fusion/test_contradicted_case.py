"""A bundled case whose note contradicts its codes, from the file to the diagnosis and back."""

import base64
import json
from pathlib import Path

import torch

from clinical.diagnoses import load_scheme
from fusion.explain import explain
from fusion.intake import Source, Tools, prepare_case, register
from fusion.model import DiagnosticModel
from fusion.network import ModelConfig
from fusion.store import Site

SAMPLE = Path(__file__).parents[2] / "sample_data"
MMSE = "72106-8"


def spoilt_bundle() -> tuple[bytes, str]:
    """A bundled case with one more note, which gives another MMSE than the codes of its day."""
    for path in sorted((SAMPLE / "site_cases" / "bundles").glob("*.json")):
        bundle = json.loads(path.read_bytes())
        scores = [
            entry["resource"]
            for entry in bundle["entry"]
            if entry["resource"].get("code", {}).get("coding", [{}])[0].get("code") == MMSE
        ]
        if scores:
            score = scores[-1]
            n, day = score["valueQuantity"]["value"], score["effectiveDateTime"]
            text = f"Seen today. MMSE {(n + 7) % 30}/30. Comes with a friend."
            bundle["entry"].append({"resource": _note(text, day, score["subject"])})
            return json.dumps(bundle).encode(), score["id"]
    raise AssertionError("no bundled case has an MMSE")


def _note(text: str, day: str, subject: dict[str, str]) -> dict[str, object]:
    attachment = {"contentType": "text/plain", "data": base64.b64encode(text.encode()).decode()}
    kind = {"coding": [{"system": "http://loinc.org", "code": "11506-3"}]}
    return {
        "resourceType": "DocumentReference", "id": "n99", "status": "current", "type": kind,
        "subject": subject, "date": f"{day}T10:00:00Z", "content": [{"attachment": attachment}],
    }  # fmt: skip


def test_a_contradicted_score_counts_less_until_a_person_decides(tmp_path, calibrator) -> None:
    """Import, check, explain; decide that there is no contradiction; that the score is wrong."""
    raw, score_id = spoilt_bundle()
    (tmp_path / "bundle.json").write_bytes(raw)
    site, scheme, tools = Site.create(tmp_path / "site"), load_scheme(), Tools()
    case_id = register(site, Source(tmp_path / "bundle.json"), scheme).case_id
    prepare_case(site, case_id, tools, scheme)
    torch.manual_seed(0)
    model = DiagnosticModel(ModelConfig(text_dim=tools.encoder.dim, dim=48, heads=4, layers=1))
    (finding,) = [f for f in site.row(case_id).found if f.kind == "score"]
    assert finding.second[0].id == score_id

    def share() -> float:
        """The attention that the score's token receives for the first diagnosis."""
        pieces = explain(model, calibrator, site.case(case_id)).evidence[0]
        labs = [piece for piece in pieces if piece.modality == "labs"]
        return sum(p.share for p in labs if score_id in p.pointer.observation_ids)

    doubted = share()
    site.resolve(case_id, finding.key, verdict="unfounded", user="dr.lee", reason="done twice")
    trusted = share()
    site.resolve(case_id, finding.key, verdict="first", user="dr.lee", reason="mistyped")
    assert share() == 0 < doubted < trusted

"""Attention over visits that lie months or years apart."""

import datetime as dt
import math

import pytest
import torch
from torch import Tensor

from clinical.lab_encoder import CHANNELS, VISITS, lab_tokens
from clinical.record import Observation, PatientRecord
from clinical.temporal import LabEncoder, course_summary

MMSE = "72106-8"
TODAY = dt.date(2026, 11, 23)


@pytest.fixture
def network() -> LabEncoder:
    """An untrained one."""
    torch.manual_seed(0)
    return LabEncoder(16)


def course(*visits: tuple[float, float]) -> PatientRecord:
    """Values of the MMSE, each so many years before today."""
    seen = [
        Observation(
            f"{years}", MMSE, "MMSE", float(value), "{score}",
            date=TODAY - dt.timedelta(days=round(365.25 * years)),
        )
        for value, years in visits
    ]  # fmt: skip
    return PatientRecord("p", "female", observations=tuple(seen))


def encode(network: LabEncoder, record: PatientRecord) -> Tensor:
    """The vectors of a record's analytes."""
    tokens = lab_tokens(record)
    assert tokens is not None
    given = (torch.from_numpy(part)[None] for part in (tokens.features, tokens.kinds))
    encoded: Tensor = network(*given)[0]
    return encoded


def distance(one: Tensor, other: Tensor) -> float:
    """How far two tokens are apart, by the length of the first."""
    return float(((one - other).norm() / one.norm()).detach())


def features(*visits: tuple[float, float]) -> Tensor:
    """One token of z and years ago, right-aligned."""
    made = torch.zeros(1, 1, VISITS, CHANNELS)
    for place, (z, years) in enumerate(reversed(visits), start=1):
        made[0, 0, -place] = torch.tensor([z, years, 1.0])
    return made


def test_shuffling_the_file_changes_nothing(network: LabEncoder) -> None:
    """The dates stay with their values."""
    visits = [(29.0, 4.0), (26.0, 2.5), (20.0, 0.0)]
    assert torch.equal(
        encode(network, course(*visits)), encode(network, course(visits[2], visits[0], visits[1]))
    )


def test_exchanging_values_between_dates_changes_the_token(network: LabEncoder) -> None:
    """Same values, same dates, same last value, another course."""
    falling = encode(network, course((29, 3), (26, 2), (22, 1), (20, 0)))
    assert distance(falling, encode(network, course((22, 3), (26, 2), (29, 1), (20, 0)))) > 1e-3
    assert distance(falling, encode(network, course((29, 3), (22, 2), (26, 1), (20, 0)))) > 1e-3


def test_a_month_apart_differs_from_five_years_apart(network: LabEncoder) -> None:
    """The same fall of four points in a month and in five years are not the same illness."""
    month = encode(network, course((28, 1 / 12), (24, 0)))
    years = encode(network, course((28, 5), (24, 0)))
    assert distance(month, years) > 1e-2


def test_one_gap_of_four_years_differs_from_even_visits(network: LabEncoder) -> None:
    """Same first and last day, same values."""
    even = encode(network, course((28, 5), (26, 2.5), (24, 0)))
    gap = encode(network, course((28, 5), (26, 4.5), (24, 0)))
    assert distance(even, gap) > 1e-3


def test_a_single_visit_has_a_token_and_no_slope(network: LabEncoder) -> None:
    """Most patients come once."""
    assert encode(network, course((24, 0))).isfinite().all()
    assert not course_summary(features((-2.0, 1.5))).any()


def test_the_summary_of_a_course_is_what_it_says() -> None:
    """A fall of one z a year over four years, with a gap of three."""
    slope, sure, span, gap, visits = course_summary(features((4, 4), (3, 3), (0, 0)))[0, 0].tolist()
    spread = (4 - 7 / 3) ** 2 + (3 - 7 / 3) ** 2 + (7 / 3) ** 2
    assert slope == pytest.approx(-spread / (spread + 0.25))
    assert sure == pytest.approx(-slope)
    assert (math.expm1(span), math.expm1(gap), math.exp(visits)) == pytest.approx((4, 3, 3))


def test_two_visits_in_a_month_claim_no_steep_slope() -> None:
    """Four points in a month are noise rather than fifty points a year."""
    month = course_summary(features((0.0, 1 / 12), (-2.0, 0.0)))[0, 0]
    assert abs(month[0]) < 0.5
    assert month[1] < 0.02


def test_every_head_forgets_at_its_own_pace(network: LabEncoder) -> None:
    """A head that looks at years and one that looks at months."""
    paces = torch.nn.functional.softplus(network.forget)
    assert paces.min() < 0.05
    assert paces.max() > 1


def test_an_absent_visit_cannot_change_the_token(network: LabEncoder) -> None:
    """Whatever an empty place holds."""
    clean = features((1.0, 1.0), (-2.0, 0.0))
    misled = clean.clone()
    misled[0, 0, :4, :2] = 1e3
    kinds = torch.zeros(1, 1, dtype=torch.int64)

    assert torch.equal(network(clean, kinds), network(misled, kinds))


def test_the_network_learns_a_slope_from_the_course() -> None:
    """Two hundred steps tell courses that fall from courses that rise to the same value."""
    torch.manual_seed(0)
    network, head = LabEncoder(16), torch.nn.Linear(16, 1)
    slopes = torch.linspace(-2, 2, 64)
    years = torch.arange(5, -1, -1.0)
    z = -1 - slopes[:, None] * years
    made = torch.stack([z, years.expand_as(z), torch.ones_like(z)], dim=-1)[:, None]
    kinds = torch.zeros(64, 1, dtype=torch.int64)
    optimizer = torch.optim.Adam([*network.parameters(), *head.parameters()], lr=1e-2)
    for _ in range(200):
        loss = (head(network(made, kinds))[:, 0, 0] - slopes).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    assert loss < 0.05 * slopes.var()


def test_the_same_deviation_of_another_analyte_is_another_token(network: LabEncoder) -> None:
    """A high TSH is not a high CRP."""
    made = torch.tensor([[[3.0, 0.0, 1.0]]]).expand(1, 2, VISITS, CHANNELS)
    high = network(made, torch.tensor([[0, 1]]))[0]
    assert not torch.allclose(high[0], high[1])


def test_a_padded_token_has_finite_output_and_gradient(network: LabEncoder) -> None:
    """Else one patient with few tests would make every weight NaN."""
    empty = torch.zeros(2, 3, VISITS, CHANNELS, requires_grad=True)
    output = network(empty, torch.zeros(2, 3, dtype=torch.int64))
    output.square().sum().backward()

    assert output.isfinite().all()
    assert empty.grad is not None
    assert empty.grad.isfinite().all()
    assert not empty.grad[..., :2].any()
    assert all(weight.grad.isfinite().all() for weight in network.parameters())


def test_the_network_exports(network: LabEncoder) -> None:
    """No branch depends on the data, so that other engines can run it."""
    made, kinds = torch.zeros(1, 3, VISITS, CHANNELS), torch.zeros(1, 3, dtype=torch.int64)
    program = torch.export.export(network, (made, kinds))
    torch.testing.assert_close(program.module()(made, kinds), network(made, kinds))

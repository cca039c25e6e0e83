"""The site's policy file."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from federated.site.policy import POLICY, PolicyError, SitePolicy, read_policy, write_policy


@dataclass(frozen=True)
class Network:
    """A layout of three numbers."""

    names: tuple[str, ...] = ("weight", "bias")
    size: int = 3
    sha256: str = "b" * 64


AGREED = SitePolicy(
    plan="a" * 64,
    layout="b" * 64,
    numbers=3,
    allowed_parameters=("weight", "bias"),
    allowed_apps=("c" * 64,),
    cases=118,
    noise_multiplier=1.5,
)


def test_a_policy_is_read_as_it_was_written(tmp_path: Path) -> None:
    """And only its owner may read it."""
    path = write_policy(tmp_path, AGREED)

    assert read_policy(tmp_path) == AGREED
    assert path.stat().st_mode & 0o077 == 0


def test_every_setting_is_explained_in_the_file(tmp_path: Path) -> None:
    """An administrator must not need another document to change it."""
    lines = write_policy(tmp_path, AGREED).read_text().splitlines()

    settings = [n for n, line in enumerate(lines) if " = " in line and line[0] != "#"]
    assert len(settings) == len(vars(AGREED))
    assert all(lines[n - 1].startswith("# ") for n in settings)


def test_without_a_policy_nothing_may_leave(tmp_path: Path) -> None:
    """A missing file is not a permissive one."""
    with pytest.raises(PolicyError, match="nothing may leave"):
        read_policy(tmp_path)


def test_an_empty_policy_allows_no_plan_and_no_app(tmp_path: Path) -> None:
    """The defaults are safe."""
    (tmp_path / POLICY).write_text("")
    policy = read_policy(tmp_path)

    with pytest.raises(PolicyError, match="does not allow"):
        policy.check_app("c" * 64)
    with pytest.raises(PolicyError, match="another plan"):
        policy.check_plan("a" * 64, Network())
    assert policy.cases < policy.smallest_cohort


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("clip = 1.0", "clip is no setting"),
        ("clip_norm = 0", "a site always clips"),
        ("clip_norm = nan", "clip_norm must be"),
        ("clip_norm = true", "clip_norm must be a number"),
        ("noise_multiplier = -1", "at least 0"),
        ("epsilon = inf", "epsilon must be"),
        ("delta = 1.0", "between 0 and 1"),
        ("cases = 2.5", "cases must be a number"),
        ("allowed_apps = 'c'", "a list of texts"),
        ("allowed_apps = [1]", "a list of texts"),
        ("share_loss = 'no'", "true or false"),
        ("secure_aggregation = 'maybe'", "one of never, allowed, required"),
        ("smallest_sum = 1", "at least 2"),
        ("noise_multiplier = 1.0\npatient_noise_multiplier = 1.0", "choose one"),
        ("clip_norm = ", "cannot be read"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(tmp_path: Path, text: str, what: str) -> None:
    """With the setting and what it must be."""
    (tmp_path / POLICY).write_text(text)

    with pytest.raises(PolicyError, match=what):
        read_policy(tmp_path)


def test_an_app_and_a_plan_that_were_agreed_to_pass() -> None:
    """Nothing else is checked here."""
    AGREED.check_app("c" * 64)
    AGREED.check_plan("a" * 64, Network())


@pytest.mark.parametrize(
    ("fingerprint", "network", "what"),
    [
        ("d" * 64, Network(), "another plan"),
        ("a" * 64, Network(sha256="d" * 64), "another plan or network"),
        ("a" * 64, Network(names=("weight", "notes")), "1 parameters .* notes"),
        ("a" * 64, Network(size=4), "0 parameters"),
    ],
)
def test_another_plan_or_network_is_refused(fingerprint: str, network: Network, what: str) -> None:
    """Before any message arrives."""
    with pytest.raises(PolicyError, match=what):
        AGREED.check_plan(fingerprint, network)


@pytest.mark.parametrize(("cases", "told"), [(118, 120), (12, 10), (3, 10), (1004, 1000)])
def test_the_hub_learns_a_rounded_number_of_cases(cases: int, told: int) -> None:
    """One patient more or less must not show."""
    assert replace(AGREED, cases=cases).announced_cases == told


def test_a_loss_never_leaves_beside_noise() -> None:
    """It would tell without noise what the noise hides."""
    assert replace(AGREED, noise_multiplier=0.0).may_share_loss
    assert not AGREED.may_share_loss
    assert not replace(AGREED, noise_multiplier=0.0, share_loss=False).may_share_loss

"""The hub's folder: keys, certificates, plan and registered sites."""

import datetime as dt
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from federated import keys
from federated.hub.folder import Hub, create_hub, forget, open_hub, register, running
from federated.plan_file import read_plan, write_plan
from federated.task import FederationError, Plan


@pytest.fixture
def hub(tmp_path: Path, plan: Plan) -> Hub:
    """A new hub."""
    return create_hub(tmp_path / "hub", "hub.example.org", plan)


@pytest.fixture
def public(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a site's key pair."""

    def make(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        return keys.make_site_key(folder)

    return make


def mode(path: Path) -> int:
    """A file's permissions."""
    return stat.S_IMODE(path.stat().st_mode)


def test_only_the_owner_can_read_a_private_key(hub: Hub, public: Callable[[str], Path]) -> None:
    """From the first byte on."""
    site = public("north").with_name(keys.SITE_KEY)

    private = [hub.folder / keys.CA_KEY, hub.folder / keys.KEY, site]
    assert [mode(path) for path in private] == [0o600] * 3
    assert mode(hub.folder) == 0o700


def test_the_certificate_is_for_the_hubs_name_and_signed_by_its_authority(hub: Hub) -> None:
    """A site that trusts the authority believes no other machine."""
    made = x509.load_pem_x509_certificate((hub.folder / keys.CERTIFICATE).read_bytes())
    authority = x509.load_pem_x509_certificate((hub.folder / keys.CA).read_bytes())
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    made.verify_directly_issued_by(authority)
    assert names.get_values_for_type(x509.DNSName) == ["hub.example.org", "localhost"]


def test_a_certificate_near_its_end_is_made_anew(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sites trust the authority, so that they notice nothing; a fresh one is kept."""
    before = (hub.folder / keys.CERTIFICATE).read_bytes()
    keys.renew_certificate(hub.folder, hub.host)
    assert (hub.folder / keys.CERTIFICATE).read_bytes() == before

    monkeypatch.setattr(keys, "RENEW_DAYS", keys.CERTIFICATE_DAYS + 1)
    keys.renew_certificate(hub.folder, hub.host)

    assert (hub.folder / keys.CERTIFICATE).read_bytes() != before


def test_a_certificate_is_valid_in_a_minute_on_a_clock_that_is_late(hub: Hub) -> None:
    """Hospitals' clocks differ."""
    made = x509.load_pem_x509_certificate((hub.folder / keys.CERTIFICATE).read_bytes())

    assert made.not_valid_before_utc < dt.datetime.now(dt.UTC) - dt.timedelta(minutes=30)


def test_a_hub_is_not_made_twice(hub: Hub, plan: Plan) -> None:
    """Its keys would be lost, and every site with them."""
    with pytest.raises(FederationError, match="is a hub already"):
        create_hub(hub.folder, "other.example.org", plan)


@pytest.mark.parametrize("host", ["", "-x", "a b", "https://hub", "x" * 300])
def test_a_host_that_is_none_is_refused(tmp_path: Path, plan: Plan, host: str) -> None:
    """It would be written into the certificate."""
    with pytest.raises(FederationError, match="--host"):
        create_hub(tmp_path / "hub", host, plan)


def test_a_folder_that_is_no_hub_is_refused(tmp_path: Path) -> None:
    """And says how to make one."""
    with pytest.raises(FederationError, match="consilium hub init"):
        open_hub(tmp_path)


def test_a_site_is_registered_once_under_one_name(hub: Hub, public: Callable[[str], Path]) -> None:
    """A new number of cases replaces the old; a second name for a key would count twice."""
    key = public("north")
    register(hub, key, "north", 100)
    register(hub, key, "north", 120)

    assert [(site.name, site.cases) for site in open_hub(hub.folder).sites] == [("north", 120)]
    with pytest.raises(FederationError, match="under another name"):
        register(hub, key, "south", 50)


def test_a_site_can_be_forgotten_and_registered_again(
    hub: Hub, public: Callable[[str], Path]
) -> None:
    """A key that was stolen must be refused from the next request on."""
    register(hub, public("north"), "north", 100)
    forget(hub, "north")
    assert hub.sites == ()

    with pytest.raises(FederationError, match="no site is called"):
        forget(hub, "north")


@pytest.mark.parametrize(
    ("name", "cases", "what"),
    [("North!", 100, "--name"), ("", 100, "--name"), ("north", 0, "--cases")],
)
def test_a_registration_that_makes_no_sense_is_refused(
    hub: Hub, public: Callable[[str], Path], name: str, cases: int, what: str
) -> None:
    """Names come into reports, cases into weights."""
    with pytest.raises(FederationError, match=what):
        register(hub, public("key"), name, cases)


def test_what_is_no_public_key_is_refused(hub: Hub, public: Callable[[str], Path]) -> None:
    """A private key above all."""
    private = public("north").with_name(keys.SITE_KEY)

    with pytest.raises(FederationError, match="not a site's public key"):
        register(hub, private, "north", 100)


def test_a_hub_that_does_not_run_says_so(hub: Hub) -> None:
    """And how to start it."""
    with pytest.raises(FederationError, match="consilium hub start"):
        running(hub)


def test_a_plan_survives_its_file(tmp_path: Path, plan: Plan) -> None:
    """Personal parts and another scheme included."""
    other = replace(
        plan,
        personal=("readout",),
        scheme=replace(plan.scheme, causes=plan.scheme.causes[::-1]),
    )

    for written in (plan, other):
        write_plan(written, tmp_path / "plan.json")
        assert read_plan(tmp_path / "plan.json") == written


def test_a_plan_that_was_changed_is_refused(tmp_path: Path, plan: Plan) -> None:
    """Or that another version of the program understands otherwise."""
    path = tmp_path / "plan.json"
    write_plan(plan, path)

    path.write_text(path.read_text().replace('"epochs": 2', '"epochs": 3'))

    with pytest.raises(FederationError, match="does not mean here"):
        read_plan(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"fingerprint": "x"}', "null"])
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    """With one sentence."""
    path = tmp_path / "plan.json"
    path.write_text(text)

    with pytest.raises(FederationError, match=r"damaged|other fields"):
        read_plan(path)

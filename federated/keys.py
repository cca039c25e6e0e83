"""Keys and certificates: the hub's authority and server certificate, a site's key pair.

A site trusts exactly the authority whose certificate its administrator was handed; the hub knows
a site by its registered public key. Private keys are files readable by their owner alone.
"""

import base64
import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_public_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from federated.errors import FederationError
from federated.files import write_whole

CA, CA_KEY = "hub-ca.crt", "hub-ca.key"
CERTIFICATE, KEY = "hub.crt", "hub.key"
SITE_KEY, SITE_PUBLIC = "site.key", "site.pub"

CA_DAYS, CERTIFICATE_DAYS = 3650, 397
RENEW_DAYS = 30  # before its end a server certificate is made anew, when the hub starts


def make_authority(folder: Path) -> None:
    """The hub's own authority: ``hub-ca.crt``, which the sites get, and its key."""
    key, name = ec.generate_private_key(ec.SECP384R1()), _name("Consilium hub authority")
    usage = x509.KeyUsage(
        digital_signature=False, key_cert_sign=True, crl_sign=True, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = _certificate(name, name, key, CA_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    made = builder.add_extension(usage, critical=True).sign(key, hashes.SHA384())
    _write_key(folder / CA_KEY, key)
    write_whole(folder / CA, made.public_bytes(Encoding.PEM))


def make_certificate(folder: Path, host: str) -> None:
    """The hub's server certificate, for its name and for this machine."""
    authority = x509.load_pem_x509_certificate((folder / CA).read_bytes())
    signer = load_pem_private_key((folder / CA_KEY).read_bytes(), password=None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP384R1())
    names = dict.fromkeys([_host(host), _host("localhost"), _host("127.0.0.1")])
    builder = _certificate(_name(host), authority.subject, key, CERTIFICATE_DAYS)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    use = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    made = builder.add_extension(use, critical=False).sign(signer, hashes.SHA384())
    _write_key(folder / KEY, key)
    write_whole(folder / CERTIFICATE, made.public_bytes(Encoding.PEM))


def renew_certificate(folder: Path, host: str) -> None:
    """Make the server certificate anew where it is about to end; sites notice nothing."""
    held = x509.load_pem_x509_certificate((folder / CERTIFICATE).read_bytes())
    if held.not_valid_after_utc - dt.datetime.now(dt.UTC) < dt.timedelta(days=RENEW_DAYS):
        make_certificate(folder, host)


def make_site_key(folder: Path) -> Path:
    """A site's key pair, kept where there is one already; the path of its public half."""
    public = folder / SITE_PUBLIC
    if not (folder / SITE_KEY).exists():
        key = ec.generate_private_key(ec.SECP384R1())
        _write_key(folder / SITE_KEY, key, PrivateFormat.OpenSSH)
        told = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        write_whole(public, told + b"\n")
    return public


def read_public_key(path: Path) -> str:
    """A site's public key as Flower's messages name it: base64 of its PEM.

    Raises:
        FederationError: The file is no such key.
    """
    try:
        key = load_ssh_public_key(path.read_bytes())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise FederationError(
            f"{path} is not a site's public key; it is the file {SITE_PUBLIC} that "
            "`consilium join` made at the site"
        )
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(pem).decode("ascii")


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    """What all certificates here have in common; valid from an hour ago, for clocks that differ."""
    now = dt.datetime.now(dt.UTC)
    return x509.CertificateBuilder(
        issuer, subject, key.public_key(), x509.random_serial_number(),
        now - dt.timedelta(hours=1), now + dt.timedelta(days=days),
    )  # fmt: skip


def _name(text: str) -> x509.Name:
    """A certificate's common name, which may not be longer than 64 characters."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _host(name: str) -> x509.GeneralName:
    """A host as a certificate names it."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write_key(
    path: Path, key: ec.EllipticCurvePrivateKey, form: PrivateFormat = PrivateFormat.PKCS8
) -> None:
    """Write a private key that only its owner can read."""
    write_whole(path, key.private_bytes(Encoding.PEM, form, NoEncryption()), private=True)

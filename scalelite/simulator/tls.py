"""Certificates for nodes that speak TLS, one of them out of date."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from scalelite.simulator.faults import Fault, FaultSet

__all__ = ["CertificateShow", "certificate"]


@cache
def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def certificate(host: str, expired: bool) -> x509.Certificate:
    """The self-signed certificate nodes on `host` show in this process; clients trust it as their own authority."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "simulated BigBlueButton")])
    end = datetime.now(UTC) + timedelta(days=-1 if expired else 30)
    try:
        subject: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        subject = x509.DNSName(host)
    names = [subject, x509.DNSName("localhost"), x509.DNSName("*.bbb.test")]
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(_key().public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - timedelta(days=60))
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(_key(), hashes.SHA256())
    )


@cache
def _context(host: str, expired: bool) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate(certificate(host, expired))
    context.use_privatekey(_key())
    return context


@implementer(IOpenSSLServerConnectionCreator)
class CertificateShow:
    """Chooses, connection by connection, whether the certificate is a good one."""

    def __init__(self, host: str, faults: FaultSet) -> None:
        self._host = host
        self._faults = faults

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """The TLS state for a new connection."""
        expired = self._faults.hit(Fault.TLS_EXPIRED, "*") is not None
        return SSL.Connection(_context(self._host, expired), None)

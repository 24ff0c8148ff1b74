#!/usr/bin/env python3
"""Makes tests/data/oms anew: keys, certificates, a small folder, and signatures of it by model-signing.

    pip install model-signing pyopenssl
    scripts/trust/oms_fixtures.py tests/data/oms

Keys and serial numbers are random, so that every run gives other files. Certificates named bad-… are such as must be
refused; model-signing 1.1.1 refuses all of them but the two whose time is over or has not come.
"""

import datetime
import pathlib
import subprocess
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from model_signing import hashing, signing

FOLDER = pathlib.Path(sys.argv[1]) if len(sys.argv) == 2 else sys.exit(__doc__)
KEYS, CERTIFICATES, MODEL, SIGNATURES = (
    FOLDER / name for name in ["keys", "certificates", "model", "signatures"]
)
USES = [
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
]
PEM = serialization.Encoding.PEM
SIGN, CERTIFY = "digital_signature", "key_cert_sign"


def openssl(line, **more):
    subprocess.run(["openssl", *line.split()], check=True, cwd=KEYS, capture_output=True, **more)


def make_keys():
    openssl("ecparam -name prime256v1 -genkey -noout -out p256.sec1.pem")
    openssl("pkcs8 -topk8 -nocrypt -in p256.sec1.pem -out p256.pem")
    openssl("pkcs8 -topk8 -in p256.pem -passout pass:secret -out p256.encrypted.pem")
    openssl("ecparam -name prime256v1 -genkey -out p256.parameters.pem")
    for name, curve in {"p384": "P-384", "p521": "P-521", "other": "P-256"}.items():
        openssl(f"genpkey -algorithm EC -pkeyopt ec_paramgen_curve:{curve} -out {name}.pem")
    for name in ["p256", "p384", "p521", "other"]:
        openssl(f"pkey -in {name}.pem -pubout -out {name}.pub.pem")
    private = subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519"], check=True, capture_output=True)
    openssl("pkey -pubout -out ed25519.pub.pem", input=private.stdout)


def name(text):
    parts = [(NameOID.ORGANIZATION_NAME, "smolt tests"), (NameOID.COMMON_NAME, text)]
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in parts])


def certificate(subject, key, issuer, by, hash=hashes.SHA256(), ca=None, uses=(), purpose=None, years=(2020, 2120), more=()):
    """`ca`: how many certificates may stand below it, or None for one that vouches for nobody, or "any"."""
    length = None if ca == "any" else ca
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject)).issuer_name(name(issuer)).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(years[0], 1, 1)).not_valid_after(datetime.datetime(years[1], 1, 1))
        .add_extension(x509.BasicConstraints(ca is not None, length), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), False)
    )
    if uses:
        builder = builder.add_extension(x509.KeyUsage(**{use: use in uses for use in USES}), True)
    if purpose:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), False)
    for extension, is_critical in more:
        builder = builder.add_extension(extension, is_critical)
    return builder.sign(by, hash)


def write(file, *certificates):
    (CERTIFICATES / f"{file}.pem").write_bytes(b"".join(one.public_bytes(PEM) for one in certificates))


def make_certificates():
    root, between, below = (ec.generate_private_key(kind) for kind in [ec.SECP384R1(), ec.SECP256R1(), ec.SECP256R1()])
    by_rsa = rsa.generate_private_key(65537, 2048)
    key = serialization.load_pem_private_key((KEYS / "p256.pem").read_bytes(), None)
    sha384, code = hashes.SHA384(), ExtendedKeyUsageOID.CODE_SIGNING
    middle = ["intermediate", between, "root", root, sha384]
    signer = ["signer", key, "intermediate", between]
    write("root", certificate("root", root, "root", root, sha384, 1, [CERTIFY]))
    intermediate = certificate(*middle, 0, [CERTIFY])
    write("intermediate", intermediate)
    write("signer", certificate(*signer, uses=[SIGN], purpose=code))
    write("rsa-root", certificate("rsa root", by_rsa, "rsa root", by_rsa, hashes.SHA512(), "any", [CERTIFY]))
    write("rsa-signer", certificate("rsa signer", key, "rsa root", by_rsa, sha384, purpose=code))
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
    write("bad-expired", certificate(*signer, uses=[SIGN], years=(2020, 2021)))
    write("bad-future", certificate(*signer, uses=[SIGN], years=(2119, 2120)))
    write("bad-usage", certificate(*signer, uses=["key_encipherment"], purpose=ExtendedKeyUsageOID.SERVER_AUTH))
    write("bad-no-usage", certificate(*signer))
    write("bad-other-issuer", certificate("signer", key, "intermediate", root, sha384, uses=[SIGN]))
    write("bad-critical", certificate(*signer, uses=[SIGN], more=[(unknown, True)]))
    last = certificate(*signer, uses=[SIGN])
    write("bad-not-ca", last, certificate(*middle, uses=[CERTIFY]))
    write("bad-no-certsign", last, certificate(*middle, "any", [SIGN]))
    too_deep = certificate("below", below, "intermediate", between, ca="any", uses=[CERTIFY])
    write("bad-path-length", certificate("signer", key, "below", below, uses=[SIGN]), too_deep, intermediate)


def make_model():
    for file, content in {
        ".hidden": "x", "a.b": "a.b", "a/b": "in a", "empty": "", "model.gguf": "weights of a model, 0123456789",
        "sub/größe.txt": "ü",
    }.items():
        (MODEL / file).parent.mkdir(parents=True, exist_ok=True)
        (MODEL / file).write_text(content)


def hashed():
    return hashing.Config().set_ignored_paths(paths=["ignored"], ignore_git_paths=True)


def sign_by_keys():
    for file, key, made in [
        ("p256-sha256", "p256", hashed()),
        ("p384-blake2b", "p384", hashed().use_file_serialization(hashing_algorithm="blake2")),
        ("p521-blake3", "p521", hashed().use_file_serialization(hashing_algorithm="blake3")),
        ("p256-shards", "p256", hashed().use_shard_serialization(hashing_algorithm="sha256", shard_size=8)),
        ("p384-shards-blake2b", "p384", hashed().use_shard_serialization(hashing_algorithm="blake2", shard_size=8)),
        ("single", "p256", hashing.Config()),
    ]:
        path = MODEL / "model.gguf" if file == "single" else MODEL
        signer = signing.Config().use_elliptic_key_signer(private_key=KEYS / f"{key}.pem")
        signer.set_hashing_config(made).sign(path, SIGNATURES / f"{file}.sig")


def sign_by_certificates():
    jobs = {"certificate": ["signer", "intermediate"], "certificate-root": ["signer", "root", "intermediate"]}
    jobs["rsa"] = ["rsa-signer", "rsa-root"]
    for file in sorted(CERTIFICATES.glob("bad-*.pem")):
        jobs[file.stem] = [file.stem] if file.read_text().count("BEGIN") > 1 else [file.stem, "intermediate"]
    for file, chain in jobs.items():
        certificates = x509.load_pem_x509_certificates(
            b"".join((CERTIFICATES / f"{one}.pem").read_bytes() for one in chain)
        )
        first, others = FOLDER / "first.pem", FOLDER / "others.pem"
        first.write_bytes(certificates[0].public_bytes(PEM))
        others.write_bytes(b"".join(one.public_bytes(PEM) for one in certificates[1:]))
        signer = signing.Config().use_certificate_signer(
            private_key=KEYS / "p256.pem", signing_certificate=first, certificate_chain=[others]
        )
        signer.set_hashing_config(hashed()).sign(MODEL, SIGNATURES / f"{file}.sig")
        first.unlink()
        others.unlink()


if __name__ == "__main__":
    for folder in [KEYS, CERTIFICATES, MODEL, SIGNATURES]:
        folder.mkdir(parents=True, exist_ok=True)
    for step in [make_keys, make_certificates, make_model, sign_by_keys, sign_by_certificates]:
        step()

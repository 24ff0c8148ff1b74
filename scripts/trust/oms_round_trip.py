#!/usr/bin/env python3
"""Signs with smolt and verifies with model-signing, and the other way round.

    pip install model-signing pyopenssl
    scripts/trust/oms_round_trip.py target/release/smolt

Every curve, hash and way of cutting files, single files, ignored paths and certificates. After each round trip a byte of
the model is changed, and both have to refuse it. Keys are made anew each time; nothing is fetched. Ends with 1 at the first
thing that is decided in another way than it should be.
"""

import datetime
import pathlib
import subprocess
import sys
import tempfile

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from model_signing import hashing, signing, verifying

SMOLT = [str(pathlib.Path(sys.argv[1]).resolve())] if len(sys.argv) == 2 else None
STOCK = [sys.executable, "-m", "model_signing"]
CURVES = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}
SHARD = 1000
# Names in statements, and those by which model-signing is told of a hash.
HASHES = {"sha256": "sha256", "blake2b": "blake2", "blake3": "blake3"}
DONE = 0


def run(line):
    done = subprocess.run([str(word) for word in line], capture_output=True, text=True)
    return done.returncode == 0, (done.stdout + done.stderr).strip()


def expect(what, expected, outcome):
    """Counts a decision, and ends the program if it is not the expected one."""
    global DONE
    taken, said = outcome
    if taken != expected:
        sys.exit(f"{what}: was {'taken' if taken else 'refused'}\n{said}")
    DONE += 1


def api(do):
    """What the library of model-signing decides."""
    try:
        do()
        return True, ""
    except Exception as error:  # noqa: BLE001, whatever it refuses with
        return False, repr(error)


def write_key(folder, name, key):
    private = folder / f"{name}.pem"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    public = folder / f"{name}.pub.pem"
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return private, public


def certificate(subject, key, issuer, by, is_root):
    def name(text):
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    usage = {
        use: use == ("key_cert_sign" if is_root else "digital_signature")
        for use in [
            "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
            "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
        ]
    }
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject)).issuer_name(name(issuer)).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
    )
    return builder.sign(by, hashes.SHA256())


def make_model(folder):
    model = folder / "model"
    (model / "a").mkdir(parents=True)
    (model / ".git").mkdir()
    for name, content in {
        "model.gguf": bytes(range(256)) * 10, "a/b": b"below", "a.b": b"beside", "größe": b"umlaut",
        "notes": b"ignored", ".git/config": b"ignored", ".hidden": b"counts", "whole": bytes(SHARD),
    }.items():
        (model / name).write_bytes(content)
    return model


def config(name, shards):
    made = hashing.Config()
    if shards:
        return made.use_shard_serialization(hashing_algorithm=HASHES[name], shard_size=SHARD)
    return made.use_file_serialization(hashing_algorithm=HASHES[name])


def check_changes(what, file, judges):
    """Changes a byte of a file, and has all judges refuse it."""
    before = file.read_bytes()
    file.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    for name, judge in judges.items():
        expect(f"{what}, a byte changed, by {name}", False, judge())
    file.write_bytes(before)


def check_keys(folder, model):
    signature = model / "model.sig"
    for curve, kind in CURVES.items():
        private, public = write_key(folder, curve, ec.generate_private_key(kind))
        judges = {
            "smolt": lambda: run(SMOLT + ["verify", model, "--key", public]),
            "model-signing": lambda: run(
                STOCK + ["verify", "key", model, "--signature", signature, "--public_key", public]
            ),
        }
        signers = {
            "smolt": SMOLT + ["sign", model, "--key", private, "--ignore", "notes"],
            "model-signing": STOCK
            + ["sign", "key", model, "--signature", signature, "--private_key", private]
            + ["--ignore-paths", model / "notes"],
        }
        for name, line in signers.items():
            expect(f"{curve} signed by {name}", True, run(line))
            for judge, decide in judges.items():
                expect(f"{curve} signed by {name}, judged by {judge}", True, decide())
            check_changes(f"{curve} signed by {name}", model / "model.gguf", judges)
            (model / "notes").write_bytes(b"may change")
            for judge, decide in judges.items():
                expect(f"{curve} signed by {name}, an ignored file changed, by {judge}", True, decide())
            signature.unlink()


def check_hashes(folder, model):
    private, public = write_key(folder, "hashes", ec.generate_private_key(ec.SECP256R1()))
    signature = model / "model.sig"
    for name in HASHES:
        for shards in [False, True]:
            if shards and name == "blake3":
                continue  # model-signing cuts no files for it
            what = f"{name} {'shards' if shards else 'files'}"
            # It has to be told, since it does not find its own names of some again.
            stock = verifying.Config().use_elliptic_key_verifier(public_key=public)
            told = lambda: api(lambda: stock.set_hashing_config(config(name, shards)).verify(model, signature))  # noqa: E731
            judges = {
                "smolt": lambda: run(SMOLT + ["verify", model, "--key", public]),
                "model-signing": told,
            }
            line = SMOLT + ["sign", model, "--key", private, "--hash", name]
            own = line + (["--shard-size", SHARD] if shards else [])
            by_stock = signing.Config().use_elliptic_key_signer(private_key=private)
            made = config(name, shards).set_ignored_paths(paths=["model.sig"])
            for signer, sign in {
                "smolt": lambda: run(own),
                "model-signing": lambda: api(lambda: by_stock.set_hashing_config(made).sign(model, signature)),
            }.items():
                expect(f"{what} signed by {signer}", True, sign())
                for judge, decide in judges.items():
                    expect(f"{what} signed by {signer}, judged by {judge}", True, decide())
                check_changes(f"{what} signed by {signer}", model / "whole", judges)
                signature.unlink()


def check_single(folder, model):
    private, public = write_key(folder, "single", ec.generate_private_key(ec.SECP384R1()))
    file, signature = model / "model.gguf", folder / "single.sig"
    judges = {
        "smolt": lambda: run(SMOLT + ["verify", file, "--signature", signature, "--key", public]),
        "model-signing": lambda: run(
            STOCK + ["verify", "key", file, "--signature", signature, "--public_key", public]
        ),
    }
    for signer, line in {
        "smolt": SMOLT + ["sign", file, "--key", private, "--output", signature],
        "model-signing": STOCK + ["sign", "key", file, "--signature", signature, "--private_key", private],
    }.items():
        expect(f"a file signed by {signer}", True, run(line))
        for judge, decide in judges.items():
            expect(f"a file signed by {signer}, judged by {judge}", True, decide())
        check_changes(f"a file signed by {signer}", file, judges)


def check_certificates(folder, model):
    signature = model / "model.sig"
    key = ec.generate_private_key(ec.SECP256R1())
    private, _ = write_key(folder, "certified", key)
    for kind, root in {
        "ECDSA": ec.generate_private_key(ec.SECP384R1()),
        "RSA": rsa.generate_private_key(65537, 2048),
    }.items():
        trusted = certificate("root", root, "root", root, True)
        own = certificate("signer", key, "root", root, False)
        pem = serialization.Encoding.PEM
        (folder / "root.pem").write_bytes(trusted.public_bytes(pem))
        (folder / "own.pem").write_bytes(own.public_bytes(pem))
        judges = {
            "smolt": lambda: run(SMOLT + ["verify", model, "--certificate-chain", folder / "root.pem"]),
            "model-signing": lambda: run(
                STOCK
                + ["verify", "certificate", model, "--signature", signature]
                + ["--certificate_chain", folder / "root.pem"]
            ),
        }
        for signer, line in {
            "smolt": SMOLT + ["sign", model, "--key", private, "--certificate-chain", folder / "own.pem"],
            "model-signing": STOCK
            + ["sign", "certificate", model, "--signature", signature, "--private_key", private]
            + ["--signing_certificate", folder / "own.pem", "--certificate_chain", folder / "root.pem"],
        }.items():
            what = f"a {kind} certificate, signed by {signer}"
            expect(what, True, run(line))
            for judge, decide in judges.items():
                expect(f"{what}, judged by {judge}", True, decide())
            check_changes(what, model / "a.b", judges)
            signature.unlink()


def main():
    if SMOLT is None:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        model = make_model(folder)
        for check in [check_keys, check_hashes, check_single, check_certificates]:
            check(folder, model)
    print(f"{DONE} decisions as they should be")


if __name__ == "__main__":
    main()

"""A certificate for the stand-in's address, made by `openssl`: clients that give their token to nobody without TLS want one."""

import asyncio
import shutil
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bot.lab.process import LabError

HOST: Final = "127.0.0.1"
DAYS: Final = 2
"""How long a certificate is good: longer than any laboratory lives."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that signs itself, so its file is the authority, too."""

    file: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        made.load_cert_chain(self.file, self.key)
        return made


async def make_certificate(folder: Path) -> Certificate:
    """Raises `LabError` where there is no `openssl`."""
    if shutil.which("openssl") is None:
        raise LabError("tls=True needs the program openssl")
    made = Certificate(folder / "ca.pem", folder / "key.pem")
    process = await asyncio.create_subprocess_exec(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-subj", "/CN=natsmedic-lab", "-addext", f"subjectAltName=IP:{HOST}", "-days", str(DAYS)),
        *("-out", str(made.file), "-keyout", str(made.key)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    if process.returncode != 0:
        raise LabError(f"openssl made no certificate: {said.decode(errors='replace').strip()}")
    made.key.chmod(0o600)
    return made

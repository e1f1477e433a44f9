"""An operator with signed accounts and users, as `nsc` makes them: JWTs signed with nkeys (nats-io/jwt v2, ADR-14), and a real server that trusts them."""

import asyncio
import base64
import hashlib
import json
import os
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nkeys
from nats.aio.client import Client

from bot.lab.binaries import nats_server_binary
from bot.lab.config import free_ports

PREFIXES = {
    "operator": nkeys.PREFIX_BYTE_OPERATOR,
    "account": nkeys.PREFIX_BYTE_ACCOUNT,
    "user": nkeys.PREFIX_BYTE_USER,
}


@dataclass(frozen=True)
class Key:
    """A signing key: its seed and its public name."""

    seed: bytes

    @property
    def public(self) -> str:
        return bytes(nkeys.from_seed(bytearray(self.seed)).public_key).decode()

    def sign(self, subject: str, kind: str, name: str, nats: Mapping[str, Any]) -> str:
        """Return a JWT about `subject`; its id is the hash of its claims, as jwt v2 does it."""
        claims = {
            "iat": int(time.time()),
            "iss": self.public,
            "name": name,
            "sub": subject,
            "nats": {**nats, "type": kind, "version": 2},
        }
        claims["jti"] = base64.b32encode(hashlib.sha256(json.dumps(claims).encode()).digest()).decode().rstrip("=")
        text = ".".join(encoded(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "ed25519-nkey"}, claims))
        return f"{text}.{encoded(nkeys.from_seed(bytearray(self.seed)).sign(text.encode()))}"


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def new_key(kind: str) -> Key:
    return Key(bytes(nkeys.encode_seed(os.urandom(32), PREFIXES[kind])))


@dataclass(frozen=True)
class User:
    """A user's JWT and seed."""

    jwt: str
    seed: str

    def creds(self, path: Path) -> Path:
        """Write them as a credentials file."""
        path.write_text(
            f"-----BEGIN NATS USER JWT-----\n{self.jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{self.seed}\n------END USER NKEY SEED------\n"
        )
        return path


class Account:
    """An account with its limits."""

    def __init__(self, operator: Key, name: str, limits: Mapping[str, int] | None = None) -> None:
        self.key = new_key("account")
        whole = {
            "subs": -1,
            "data": -1,
            "payload": -1,
            "imports": -1,
            "exports": -1,
            "wildcards": True,
            "conn": -1,
            "leaf": -1,
        }
        self.jwt = operator.sign(self.key.public, "account", name, {"limits": {**whole, **(limits or {})}})

    def user(self, name: str, *, bearer: bool = False) -> User:
        key = new_key("user")
        limits = {"subs": -1, "data": -1, "payload": -1, "bearer_token": bearer}
        return User(self.key.sign(key.public, "user", name, limits), key.seed.decode())


@dataclass(frozen=True)
class Trusting:
    """A running server, its system account and an account with few connections."""

    url: str
    monitoring: str
    system: Account
    small: Account


@asynccontextmanager
async def trusting_server(directory: Path, version: str) -> AsyncGenerator[Trusting]:
    """Run one server that trusts a new operator."""
    operator = new_key("operator")
    system, small = Account(operator, "SYS"), Account(operator, "SMALL", {"conn": 10})
    client_port, http_port = free_ports(2)
    config = directory / "operator.conf"
    config.write_text(
        f"port: {client_port}\nhttp: 127.0.0.1:{http_port}\nserver_name: solo\n"
        f"operator: {operator.sign(operator.public, 'operator', 'OP', {})}\nsystem_account: {system.key.public}\n"
        f"resolver: MEMORY\nresolver_preload: {{\n {system.key.public}: {system.jwt}\n {small.key.public}: {small.jwt}\n}}\n"
    )
    binary = await nats_server_binary(version)
    process = await asyncio.create_subprocess_exec(
        binary, "-c", config, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        for _ in range(100):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", client_port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                break
        yield Trusting(f"nats://127.0.0.1:{client_port}", f"http://127.0.0.1:{http_port}", system, small)
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def clients(server: Trusting, creds: Path, count: int) -> AsyncGenerator[None]:
    """Hold so many connections."""
    held = [Client() for _ in range(count)]
    for client in held:
        await client.connect(server.url, user_credentials=str(creds))
    try:
        yield
    finally:
        for client in held:
            await client.close()

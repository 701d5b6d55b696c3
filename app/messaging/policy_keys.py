"""How policies lie in their bucket: which key holds what.

`live.policy.<name>`: the document in force under a name; without one the file's policy holds.
`live.default`: the name of the policy of requests that name none; without it the setting's.
`live.shadow.<name>`: the name of the policy that is tried beside another.
`version.<name>.<version>.<fingerprint>`: the document of every version that was ever in force, files included; never
changed.
"""

from __future__ import annotations

from typing import Final

from app.arbiter.live import Change
from app.contracts import PolicyPin
from app.topology import POLICIES_BUCKET

SUBJECT_PREFIX: Final = f"$KV.{POLICIES_BUCKET.name}."
LIVE: Final = "live.>"
DEFAULT: Final = "live.default"


def live_key(name: str) -> str:
    return f"live.policy.{name}"


def shadow_key(beside: str) -> str:
    return f"live.shadow.{beside}"


def version_key(pin: PolicyPin) -> str:
    return f"version.{pin.name}.{pin.version}.{pin.fingerprint}"


def key_of(change: Change) -> str:
    match change.kind:
        case "policy":
            return live_key(change.name)
        case "shadow":
            return shadow_key(change.name)
        case "default":
            return DEFAULT


def change_of(key: str, value: bytes | None) -> Change | None:
    """Return what a key under `live.` says; None for one that this program does not know."""
    match key.split("."):
        case ["live", "default"]:
            return Change("default", "", value)
        case ["live", "policy", name]:
            return Change("policy", name, value)
        case ["live", "shadow", name]:
            return Change("shadow", name, value)
        case _:
            return None


def pin_of_key(key: str) -> PolicyPin | None:
    """Return which version a key holds; None for a key of something else."""
    match key.split("."):
        case ["version", name, version, fingerprint] if version.isdecimal():
            return PolicyPin(name=name, version=int(version), fingerprint=fingerprint)
        case _:
            return None

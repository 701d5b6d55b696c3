"""Things that exist in the service under test, which requests name half of the time: nobody guesses an id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Self
from uuid import UUID

import requests

PIECES: Final[dict[str, Any]] = {
    "mode": "fast",
    "weights": {"heuristics": 0.3, "semantic": 0.3, "classifier": 0.4},
    "levels": {"low_up_to": 30, "medium_up_to": 60},
    "block_at": 61,
}
"""Parts of a policy that must fit each other, which no schema can say."""
NAMES: Final = ("fuzz-a", "fuzz-b", "fuzz-c")
IDS: Final = tuple(str(UUID(int=number, version=4)) for number in range(1, 9))


@dataclass(frozen=True, slots=True)
class Known:
    url: str
    keys: tuple[str, ...]
    restore_map: str

    @classmethod
    def make(cls, url: str) -> Self:
        """Have a service judge texts, and make keys and policies in it."""
        with requests.Session() as session:

            def sent(method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
                response = session.request(method, url + path, json=body, timeout=60)
                response.raise_for_status()
                answer: dict[str, Any] = response.json()
                return answer

            for request_id in IDS:
                sent("POST", "/guard", {"text": "Good morning", "mode": "fast", "request_id": request_id})
            for name in NAMES:
                body = PIECES | {"name": name, "version": 1, "description": "tried", "degraded_factor": 0.5}
                sent("PUT", f"/admin/policies/{name}", body)
            keys = tuple(sent("POST", "/admin/keys", {"name": name})["description"]["id"] for name in NAMES)
            asked = {"text": "Write to anna@example.com", "mode": "full", "restorable": True}
            return cls(url, keys, sent("POST", "/guard", asked)["restore_map"])

    def named(self, case: Any, drawn: int) -> Any:
        """Put what exists in place of what was made up, for every other number that is drawn."""
        choice, odd = divmod(drawn, 2)
        if not odd:
            return case
        ends = (case.method == "DELETE" and case.path.endswith("{name}")) or case.path.endswith("/revoke")
        # What is ended is always the first, so that the others go on.
        those = slice(1) if ends else slice(None)
        known = {"request_id": IDS, "key_id": self.keys[those], "name": NAMES[those]}
        for parameter, values in known.items():
            if parameter in case.path_parameters:
                case.path_parameters[parameter] = values[choice % len(values)]
        if isinstance(case.body, dict):
            if case.body.get("restore_map") is not None:
                case.body["restore_map"] = self.restore_map
            elif case.path.endswith("/shadow"):
                case.body["policy"] = NAMES[1]
            elif "block_at" in case.body:
                case.body.update(PIECES)
                case.body.pop("boosts", None)
                case.body["name"] = case.path_parameters["name"]
        return case

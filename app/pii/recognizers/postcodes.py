"""Postcodes as they are written in addresses: patterns that other recognizers put together."""

from __future__ import annotations

from typing import Final

BRITISH: Final = r"(?:GIR 0AA|[A-PR-UWYZ][A-HJ-Z]?[0-9][0-9A-HJKMNP-Y]?[ ]?[0-9][ABD-HJLNP-UW-Z]{2})"
"""Royal Mail, Programmers' guide: no Q, V, X first, no I or Z second, no C I K M O V behind the last digit."""
AMERICAN_STATE: Final = (
    r"(?:A[KLPRZ]|C[AOT]|D[CE]|FL|G[AU]|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|P[AR]|RI|S[CD]|T[NX]|UT|"
    r"V[AIT]|W[AIVY])"
)
"""USPS Publication 28, appendix B."""
AMERICAN: Final = r"[0-9]{5}(?:-[0-9]{4})?"
AUSTRALIAN: Final = r"(?:ACT|NSW|NT|QLD|SA|TAS|VIC|WA),?[ ][0-9]{4}"
"""Australia Post: state and four digits."""
IRISH: Final = r"(?:[AC-FHKNPRTV-Y][0-9]{2}|D6W)[ ]?[0-9AC-FHKNPRTV-Y]{4}"
"""Eircode: routing key, and four characters."""
POLISH: Final = r"[0-9]{2}-[0-9]{3}"

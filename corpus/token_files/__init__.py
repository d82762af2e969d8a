"""Token shards of other programs: datatrove's .ds files (datatrove.py), Megatron-LM's .bin and .idx (megatron.py); to and from."""

from __future__ import annotations

from typing import Literal

Kind = Literal["datatrove", "megatron"]
KINDS: tuple[Kind, ...] = ("datatrove", "megatron")

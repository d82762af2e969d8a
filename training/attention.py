"""Which kernels keep the documents of packed rows apart, chosen by the recipe or by the device; all of them are exact.

* ``sdpa``: an explicit boolean mask [B, 1, T, T], causal and block-diagonal over pieces. Any device. (The ``eager`` attention of
  transformers adds a boolean mask as numbers and is silently wrong.)
* ``flex_attention``: training/flex.py. CUDA only.
* ``flash_attention_2``: rows are laid end to end and transformers derives the boundaries from position ids that restart. It does so
  only with ``attention_mask=None`` and ``use_cache=False``; otherwise documents would leak into each other without a word. CUDA, bf16
  and the flash-attn package only.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from store.errors import InputError, ResourceError

if TYPE_CHECKING:
    import torch

    from training.params import Attention, Precision

SDPA, FLASH = "sdpa", "flash_attention_2"
FLEX = "packed_flex_attention"  # transformers asks of every name with "flex_attention" in it whether the family supports it
SMALLEST_HEAD = 16  # dimensions of a head that flex_attention's CUDA kernel takes
WHERE = "train.attn_implementation"


def attention_on(device: torch.device, wanted: Attention, precision: Precision) -> str:
    """The name transformers is given; see ``choose``."""
    cuda = device.type == "cuda"
    found = choose(wanted, precision, cuda=cuda, flash=cuda and _has_flash(device))
    if found == FLEX:
        import training.flex  # noqa: F401  # registers the name
    return found


def choose(wanted: Attention, precision: Precision, *, cuda: bool, flash: bool) -> str:
    """SDPA, FLEX or FLASH.

    Args:
        flash: whether flash-attn is installed and the device one of those it runs on.

    Raises:
        ResourceError, InputError: what is wanted cannot train on this device, or in this precision.
    """
    if wanted == "auto":
        return SDPA if not cuda else FLASH if flash and precision == "bf16" else FLEX
    if wanted == "flex_attention" and not cuda:
        raise ResourceError("flex_attention has no backward pass on a CPU", where=WHERE, expected="a CUDA device",
                            remedy="set attn_implementation: auto, which is sdpa there")  # fmt: skip
    if wanted == "flash_attention_2":
        if not flash:
            raise ResourceError("flash_attention_2 cannot run here", where=WHERE,
                                expected="a CUDA device of capability 8.0 or later, and the package flash-attn",
                                remedy="pip install 'definemed[gpu]', or set attn_implementation: auto")  # fmt: skip
        if precision != "bf16":
            raise InputError(f"flash_attention_2 has no {precision}", where=WHERE, expected="precision: bf16",
                             remedy="set attn_implementation: auto")  # fmt: skip
    return FLEX if wanted == "flex_attention" else wanted


def _has_flash(device: torch.device) -> bool:
    import torch

    return find_spec("flash_attn") is not None and torch.cuda.get_device_capability(device) >= (8, 0)

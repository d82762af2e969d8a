"""Learning-rate schedules as pure functions of the step, so nothing about them is saved.

With n the schedule's length, s the step from 0, w the warm-up steps, p the peak and m = min_lr_ratio:

    warm-up    p (s + 1) / (w + 1)               for s < w; with ``start_lr`` r: r + (p - r) s / w
    cosine     p (m + (1 - m) (1 + cos pi x) / 2)     x = (s - w) / (n - 1 - w)
    linear     p (m + (1 - m) (1 - x))
    constant   p
    wsd        p until the last d = decay_ratio n steps, then p (m + (1 - m) f(y)) with y = (s - (n - 1 - d)) / d:
               f = 1 - y (linear), 1 - sqrt y (sqrt), (1 + cos pi y) / 2 (cosine)

Sources: cosine with warm-up as in Llama3-German-8B and Ibrahim et al. (arXiv 2403.08763); warm-up, stable, decay from MiniCPM (arXiv
2404.06395); its 1 - sqrt decay over 10 to 20 % from Haegele et al. (arXiv 2405.18392); a linear decay to zero from OLMo 2 (arXiv
2501.00656); starting from the rate at which pre-training ended, without warming up again, from Parmar et al. (arXiv 2407.07263).
"""

from __future__ import annotations

import math

from training.params import TrainParams


def learning_rate(params: TrainParams, step: int, n_steps: int) -> float:
    """Rate of step 0, 1, ... of a run of ``n_steps``. Beyond the schedule's length it stays at the last value."""
    n = n_steps if params.schedule_steps is None else params.schedule_steps
    step = min(step, n - 1)
    n_warm = round(params.warmup_ratio * n)
    if step < n_warm:
        return _warm_up(params, step, n_warm)
    if params.schedule == "wsd":
        share = _wsd(params, step, n, n_warm)
    else:
        done = (step - n_warm) / max(1, n - 1 - n_warm)
        share = {"cosine": _cosine(done), "linear": 1 - done, "constant": 1.0}[params.schedule]
    floor = params.min_lr_ratio
    return params.learning_rate * (floor + (1 - floor) * share)


def _warm_up(params: TrainParams, step: int, n_warm: int) -> float:
    peak = params.learning_rate
    if params.start_lr is None:
        return peak * (step + 1) / (n_warm + 1)
    return params.start_lr + (peak - params.start_lr) * step / n_warm


def _wsd(params: TrainParams, step: int, n: int, n_warm: int) -> float:
    n_decay = min(round(params.decay_ratio * n), n - n_warm)
    into = step - (n - 1 - n_decay)
    if into <= 0:
        return 1.0
    done = into / n_decay
    return {"linear": 1 - done, "sqrt": 1 - math.sqrt(done), "cosine": _cosine(done)}[params.decay_shape]


def _cosine(done: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * done))

"""The interaction level: scenario, choice model, belief, alignment, session, runner, journal."""

import devices  # noqa: F401  (its cache folder must be set before numba is first imported)

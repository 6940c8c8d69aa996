"""Python's collector of cycles, as a server wants it."""

import gc

GENERATIONS = 2_000, 20, 50  # objects and collections, for 700, 10 and 10


def settle() -> None:
    """Call it when all modules are loaded: they are never looked through again, which stops a whole process for 0.1 s each time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GENERATIONS)

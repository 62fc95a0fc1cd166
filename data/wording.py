"""Numbers of things, as people say them."""


def number_of(number: int, noun: str) -> str:
    """ "1 pair", "2 pairs": `noun` is one whose plural ends in s."""
    return f"{number} {noun}{'s' * (number != 1)}"

"""What a customer pays."""


def total(cents: list[int], discount_percent: int = 0) -> int:
    """Return the sum of prices in cents, less a discount in percent, rounded down."""
    return sum(cents) * (100 - discount_percent) // 10

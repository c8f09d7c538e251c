import unittest

from invoice import total


class TotalTest(unittest.TestCase):
    def test_without_discount_it_is_the_sum(self) -> None:
        self.assertEqual(total([1000, 250]), 1250)

    def test_a_discount_is_taken_from_the_sum(self) -> None:
        self.assertEqual(total([1000, 250], discount_percent=20), 1000)

    def test_nothing_costs_nothing(self) -> None:
        self.assertEqual(total([], discount_percent=20), 0)


if __name__ == "__main__":
    unittest.main()

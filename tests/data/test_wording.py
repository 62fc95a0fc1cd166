from data.wording import number_of


def test_one_is_singular():
    assert [number_of(n, "pair") for n in (0, 1, 2)] == ["0 pairs", "1 pair", "2 pairs"]

"""Views of one colour."""

import torch

from data.views import SEVERAL, plain_colours


def test_plain_view_has_a_colour_unless_one_value_differs():
    views = torch.zeros(2, 4, 3, 40, 24, dtype=torch.uint8)
    views[0, 1] = torch.tensor([1, 2, 255]).view(3, 1, 1)
    views[0, 2] = 255
    expected = torch.tensor([[0, 0x0102FF, 0xFFFFFF, 0], [0, 0, 0, 0]])
    assert plain_colours(views).tolist() == expected.tolist()
    assert plain_colours(views[:, 2:]).tolist() == expected[:, 2:].tolist()
    for channel, row, column in ((0, 0, 0), (1, 0, 1), (2, 39, 23), (0, 16, 16), (2, 17, 0)):
        altered = views.clone()
        altered[1, 3, channel, row, column] = 1
        assert plain_colours(altered)[1].tolist() == [0, 0, 0, SEVERAL]
    assert plain_colours(torch.randint(0, 256, (3, 3, 8, 8)).byte()).tolist() == [SEVERAL] * 3

"""What `benchmarks.real_model` makes of prompts and of continuations that part."""

import numpy as np

from benchmarks.real_model import padded, tie


def test_prompts_are_padded_on_either_side():
    tokens, mask = padded([[1, 2, 3], [4]], left=True)
    np.testing.assert_array_equal(tokens, [[1, 2, 3], [0, 0, 4]])
    np.testing.assert_array_equal(mask, [[1, 1, 1], [0, 0, 1]])
    tokens, mask = padded([[1, 2, 3], [4]], left=False)
    np.testing.assert_array_equal(tokens, [[1, 2, 3], [4, 0, 0]])
    np.testing.assert_array_equal(mask, [[1, 1, 1], [1, 0, 0]])


def test_where_continuations_part_and_by_how_much():
    def logits(model, read, mask):
        """Prefers the token by its number, after three tokens only."""
        assert read.tolist() == [[9, 5, 6]]
        return np.arange(10, dtype=np.float32)[None, None] / 4

    assert tie(logits, None, [9], [5, 6, 7], [5, 6, 3]) == {"parts_at": 2, "gap": 1.0}
    assert tie(logits, None, [9], [5, 6], [5, 6]) == {}
    # One that ended earlier parts without a gap.
    assert tie(logits, None, [9], [5, 6], [5, 6, 3]) == {"parts_at": 2}

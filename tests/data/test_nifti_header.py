"""What headers of both versions and both byte orders say."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from nnlite.data.nifti_header import HEADER, HEADER_2, parse_header, read_header


def header(layout: np.dtype, order: str) -> bytes:
    fields = np.zeros(1, layout.newbyteorder(order))
    fields["size"], fields["type"], fields["bits"] = layout.itemsize, 4, 16
    fields["dim"][0] = (4, 5, 6, 7, 2, 1, 1, 1)
    fields["pixdim"][0] = (1, 0.5, 0.75, 3, 1, 1, 1, 1)
    fields["sform"], fields["units"] = 1, 2
    fields["matrix"][0] = (0.5, 0, 0, 10, 0, 0.75, 0, 20, 0, 0, 3, 30)
    return fields.tobytes()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("layout", [HEADER, HEADER_2])
def test_both_versions_in_both_orders_say_the_same(layout, order):
    found = parse_header(header(layout, order))
    assert (found.shape, found.spacing_mm) == ((5, 6, 7, 2), (0.5, 0.75, 3.0))
    assert found.dtype == np.dtype(order + "i2")
    np.testing.assert_array_equal(found.sform_matrix()[:, 3], [10, 20, 30])


@pytest.mark.parametrize(("unit", "factor"), [(0, 1.0), (1, 1000.0), (2, 1.0), (3, 0.001)])
def test_lengths_are_in_millimetres_whatever_the_unit(unit, factor):
    content = bytearray(header(HEADER, "<"))
    content[123] = unit
    found = parse_header(bytes(content))
    assert found.spacing_mm == pytest.approx((0.5 * factor, 0.75 * factor, 3 * factor))
    assert found.sform_matrix()[2, 3] == pytest.approx(30 * factor)


def test_a_compressed_header_is_read_whatever_the_name(tmp_path):
    for name, content in [("a.nii", header(HEADER, "<")), ("b.nii", gzip.compress(header(HEADER, "<")))]:
        (tmp_path / name).write_bytes(content)
        assert read_header(tmp_path / name).shape == (5, 6, 7, 2)


def test_what_is_no_header_is_none(tmp_path):
    assert parse_header(b"a text that is long enough to be a header" * 20) is None
    assert parse_header(header(HEADER, "<")[:300]) is None
    assert read_header(tmp_path / "missing.nii") is None

"""Names of labels as people write them, and their codes."""

from __future__ import annotations

import pytest

from nnlite.interop.organ_codes import ABNORMAL, ANATOMY, Meaning, meaning_of, private_code


@pytest.mark.parametrize(
    ("label", "keyword", "side"),
    [
        ("liver", "Liver", None),
        ("kidneys", "Kidney", None),
        ("kidney_left", "Kidney", "Left"),
        ("Right Lung", "Lung", "Right"),
        ("left_ventricle", "LeftVentricle", None),  # the side is part of the organ's name
        ("SpinalCord", "SpinalCord", None),
        ("Parotid_R", "ParotidGland", "Right"),
        ("inferior vena cava", "InferiorVenaCava", None),
        ("esophagus", "Esophagus", None),
    ],
)
def test_common_organs_are_known_however_they_are_written(label: str, keyword: str, side: str | None):
    assert meaning_of(label) == Meaning(keyword=keyword, side=side)


def test_disease_is_no_anatomy():
    assert meaning_of("tumour") == Meaning(keyword="Neoplasm", abnormal=True)
    assert meaning_of("Lesions") == Meaning(keyword="Lesion", abnormal=True)


@pytest.mark.parametrize("label", ["GTV_Mass_CT", "label 3", "left", "left right kidney", "", "肝"])
def test_a_name_that_is_not_in_the_tables_has_no_code(label: str):
    assert meaning_of(label).keyword is None


def test_private_codes_fit_into_the_fields_of_dicom():
    for label in ("a very long name of a structure that nobody has ever heard of " * 2, "肝", "GTV_Mass_CT"):
        value, scheme, meaning = private_code(label)
        assert 0 < len(value) <= 16
        assert len(meaning) <= 64
        assert scheme == "99NNLITE"


def test_every_keyword_is_in_the_dictionary_of_codes():
    pytest.importorskip("pydicom", reason="needs pydicom, which the extra dicom installs")
    from pydicom.sr.codedict import codes

    unknown = [keyword for keyword in (*ANATOMY.values(), *ABNORMAL.values()) if keyword not in dir(codes.SCT)]
    assert unknown == []
    assert (codes.SCT.Liver.value, codes.SCT.Left.value) == ("10200004", "7771000")

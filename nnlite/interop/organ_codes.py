"""Coded names of what is segmented: SNOMED CT for common structures, a private code with the label's name for others.

A DICOM segment names its meaning by a code (PS3.3 C.8.20.4). Here are only keywords of the SNOMED subset that DICOM
uses (PS3.16); pydicom knows the codes behind them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PRIVATE_SCHEME = "99NNLITE"  # names that begin with 99 are anyone's (PS3.16 8.2)
LONGEST_VALUE, LONGEST_MEANING = 16, 64  # letters of a code and of its meaning (SH and LO)
SIDES = {"left": "Left", "right": "Right", "l": "Left", "r": "Right"}

ABNORMAL = {  # not anatomy: changed by disease
    **dict.fromkeys(("tumor", "tumour", "neoplasm", "gtv"), "Neoplasm"),
    **dict.fromkeys(("edema", "oedema"), "Edema"),
    **dict.fromkeys(("hemorrhage", "haemorrhage"), "Hemorrhage"),
    **{name.lower(): name for name in ("Lesion", "Necrosis", "Cyst", "Nodule", "Metastasis", "Mass", "Effusion")},
    "pleural effusion": "PleuralEffusion",
    "pericardial effusion": "PericardialEffusion",
}
ANATOMY = {
    **{
        re.sub(r"(?<!^)(?=[A-Z])", " ", keyword).lower(): keyword
        for keyword in (
            *("Liver", "Spleen", "Pancreas", "Kidney", "AdrenalGland", "Gallbladder", "Stomach", "Duodenum", "Colon"),
            *("SmallIntestine", "LargeIntestine", "Rectum", "Esophagus", "Bladder", "Prostate", "SeminalVesicle"),
            *("Uterus", "Ovary", "Testis", "Lung", "Trachea", "Bronchus", "Heart", "LeftVentricle", "RightVentricle"),
            *("LeftAtrium", "Aorta", "PulmonaryArtery", "PulmonaryVein", "PortalVein", "HepaticVein"),
            *("SuperiorVenaCava", "InferiorVenaCava", "Artery", "BloodVessel", "Thyroid", "Larynx", "Pharynx"),
            *("OralCavity", "ParotidGland", "SubmandibularGland", "Mandible", "Eye", "Lens", "OpticNerve"),
            *("OpticChiasm", "Pituitary", "Brain", "BrainStem", "Cerebellum", "Hippocampus", "Amygdala", "Thalamus"),
            *("Putamen", "GlobusPallidus", "CaudateNucleus", "SpinalCord", "Vertebra", "Rib", "Sternum", "Clavicle"),
            *("Scapula", "Humerus", "Femur", "Tibia", "Fibula", "Patella", "Sacrum", "Bone", "Muscle", "Fat", "Skin"),
            *("Breast", "LymphNode", "Cartilage", "Meniscus"),
        )
    },
    "oesophagus": "Esophagus",
    "urinary bladder": "Bladder",
    "brainstem": "BrainStem",
    "gall bladder": "Gallbladder",
    "thyroid gland": "Thyroid",
    "vertebrae": "Vertebra",
    "lungs": "Lung",
    "vessel": "BloodVessel",
    "caudate": "CaudateNucleus",
    "parotid": "ParotidGland",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What a label is: the keyword of a SNOMED code (None: no code is known), whether it is abnormal, and its side."""

    keyword: str | None
    abnormal: bool = False
    side: str | None = None


def meaning_of(label: str) -> Meaning:
    """The coded meaning of a label, however it is written; one that is not in the tables has no keyword.

    >>> meaning_of("Kidneys_L")
    Meaning(keyword='Kidney', abnormal=False, side='Left')
    >>> meaning_of("label 7").keyword is None
    True
    """
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|[^A-Za-z0-9]+", " ", label).lower().split()
    for chosen, side in ((words, None), *_without_side(words)):
        name = " ".join(chosen)
        for spelling in (name, name.removesuffix("s")):
            if spelling in ABNORMAL:
                return Meaning(keyword=ABNORMAL[spelling], abnormal=True, side=side)
            if spelling in ANATOMY:
                return Meaning(keyword=ANATOMY[spelling], side=side)
    return Meaning(keyword=None)


def private_code(label: str) -> tuple[str, str, str]:
    """Value, scheme and meaning of a code for a label that no table knows.

    >>> private_code("label 7")
    ('LABEL_7', '99NNLITE', 'label 7')
    """
    value = re.sub(r"[^A-Za-z0-9]+", "_", label).strip("_").upper()[:LONGEST_VALUE] or "LABEL"
    return value, PRIVATE_SCHEME, label[:LONGEST_MEANING]


def _without_side(words: list[str]) -> list[tuple[list[str], str]]:
    """The other words and the side, where exactly one word names a side."""
    sides = [word for word in words if word in SIDES]
    return [([word for word in words if word not in SIDES], SIDES[sides[0]])] if len(sides) == 1 else []

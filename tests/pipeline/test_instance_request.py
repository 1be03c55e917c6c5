"""How instances come apart is decided by an option, by the dataset, or by the plan that is followed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nnlite.data.instances import Instances
from nnlite.data.labels import Labels
from nnlite.errors import UsageError
from nnlite.pipeline.instance_request import BORDER_PX, LABELS_DECIDE, RIM_PX, InstanceRequest

PLAIN = Labels(names=("background", "nucleus"), values=(0, 1))
SAID = replace(PLAIN, instances=Instances(numbered=True))


def test_without_a_word_there_are_no_instances():
    assert LABELS_DECIDE.decide(PLAIN, None) == (PLAIN, None)


def test_a_dataset_that_has_instances_gets_a_border_and_an_option_another_width():
    labels, why = LABELS_DECIDE.decide(SAID, None)
    assert labels.instances == Instances(numbered=True, border_px=BORDER_PX)
    assert why is not None
    assert why.startswith('"instances" in nnlite.json: ')
    wider, _ = InstanceRequest(border_px=4).decide(SAID, None)
    assert wider.instances == Instances(numbered=True, border_px=4)


def test_an_option_asks_for_instances_that_the_dataset_does_not_tell_of():
    labels, why = InstanceRequest(choice="distance").decide(PLAIN, None)
    assert labels.instances == Instances()
    assert why is not None
    assert why.startswith("--instances: ")
    none = InstanceRequest(choice="none")
    assert none.decide(PLAIN, None) == (PLAIN, None)
    why = "--instances none: the parts of the mask are not told apart"  # against the word of the dataset
    assert none.decide(replace(PLAIN, instances=Instances()), None) == (PLAIN, why)


def test_a_rim_is_narrower_than_a_border_unless_its_width_is_given():
    labels, why = InstanceRequest(choice="rim").decide(PLAIN, None)
    assert labels.instances == Instances(border_px=RIM_PX, rim=True)
    assert why == "--instances: objects come apart by a border class, the outer 1 pixels of each of them"
    assert InstanceRequest(choice="rim", border_px=2).decide(PLAIN, None)[0].instances == Instances(
        border_px=2, rim=True
    )


def test_a_plan_that_is_followed_brings_its_border_and_the_dataset_its_kind_of_label_map():
    other = replace(PLAIN, instances=Instances(border_px=5))
    assert LABELS_DECIDE.decide(SAID, other)[0].instances == Instances(numbered=True, border_px=5)
    assert InstanceRequest(choice="distance").decide(SAID, other)[0].instances == Instances(numbered=True)


def test_a_plan_that_is_followed_without_instances_goes_on_without_them():
    said = replace(PLAIN, instances=Instances())
    assert LABELS_DECIDE.decide(said, PLAIN) == (PLAIN, "as in the plan that this one follows")
    assert LABELS_DECIDE.decide(PLAIN, PLAIN) == (PLAIN, None)
    # numbers have to be read as such, but the network answers as many labels as the followed one, whose weights fit
    numbered, _ = LABELS_DECIDE.decide(SAID, PLAIN)
    assert numbered.instances == Instances(numbered=True)
    assert numbered.outputs == PLAIN.outputs
    assert InstanceRequest(choice="border").decide(said, PLAIN)[0].instances == Instances(border_px=BORDER_PX)


def test_a_width_alone_is_that_of_the_border_or_rim_in_the_plan_that_is_followed():
    rim, border = (replace(PLAIN, instances=Instances(border_px=1, rim=rim)) for rim in (True, False))
    wider = InstanceRequest(border_px=2)
    assert wider.decide(SAID, rim)[0].instances == Instances(numbered=True, border_px=2, rim=True)
    assert wider.decide(SAID, border)[0].instances == Instances(numbered=True, border_px=2)
    assert InstanceRequest(choice="border").decide(PLAIN, rim)[0].instances == Instances(border_px=BORDER_PX)


def test_requests_that_make_no_sense_are_refused():
    with pytest.raises(UsageError, match="at least 1 pixel"):
        InstanceRequest(border_px=0)
    with pytest.raises(UsageError, match="--instances is distance"):
        InstanceRequest(choice="distance", border_px=2)
    with pytest.raises(UsageError, match='"numbered"'):
        InstanceRequest(choice="none").decide(SAID, None)
    three = Labels(names=("background", "one", "two"), values=(0, 1, 2))
    with pytest.raises(UsageError, match="instances are those of one label, and there are one, two"):
        InstanceRequest(choice="border").decide(three, None)

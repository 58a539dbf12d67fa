"""Names of the findings that the engine itself writes into a record's `report`; methods add their own."""

DIVERGED = "diverged_"  # + stage: the first epoch whose training loss was not finite
# Of a prune stage whose masks cut something off: outputs that inputs reach, layers without a weight.
CONNECTED, REACHED, EMPTY = "connected", "outputs_reached", "empty_layers"
# Of a stage that loads weights: what they are, and how the net does with them on the test images.
ORIGIN, ACCURACY, TOP5, LOSS = "pretrained", "pretrained_accuracy", "pretrained_accuracy_top5", "pretrained_test_loss"

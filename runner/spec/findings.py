"""Names of the findings that the engine writes into a record's `report`; methods add their own."""

DIVERGED = "diverged_"  # + stage: the first epoch whose training loss was not finite
# For a prune stage whose masks disconnect something: outputs that inputs reach, empty layers.
CONNECTED, REACHED, EMPTY = "connected", "outputs_reached", "empty_layers"
# For a stage that loads weights: their origin, and the net's results with them on the test images.
ORIGIN = "pretrained"
ACCURACY = "pretrained_accuracy"
TOP5 = "pretrained_accuracy_top5"
LOSS = "pretrained_test_loss"

"""Normalisation constants that published code uses for several data sets.

Constants of a single data set are in its class.
"""

# Mean and std per channel, of pixels in [0, 1].
Constants = tuple[tuple[float, ...], tuple[float, ...]]

MNIST: Constants = ((0.1307,), (0.3081,))  # open_lth, Synaptic-Flow, rahulvigneswaran
# rahulvigneswaran broadcasts MNIST's constants to RGB.
MNIST_RGB: Constants = ((0.1307,) * 3, (0.3081,) * 3)
# GraSP, Synaptic-Flow, open_lth, torchvision's weights.
IMAGENET: Constants = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

"""Normalisation constants that published code uses for several data sets.

Those of a single data set stand in its class.
"""

Constants = tuple[tuple[float, ...], tuple[float, ...]]  # mean and std per channel, of pixels in [0, 1]

MNIST: Constants = ((0.1307,), (0.3081,))  # open_lth, Synaptic-Flow, rahulvigneswaran
MNIST_RGB: Constants = ((0.1307,) * 3, (0.3081,) * 3)  # rahulvigneswaran broadcasts MNIST's constants to RGB
IMAGENET: Constants = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # GraSP, Synaptic-Flow, open_lth, torchvision's weights

"""The XNOR-ResNet18 on CIFAR-10, of 96 channels after the stem and without weight decay.

Command: python launch/evaluate.py --config=configs/evaluate/xnor_resnet18.py --workdir=runs/xnor_resnet18
Expected time: Not run: hours on one GPU; describing it takes 5 seconds.
Expected result: Published 92.57 % validation accuracy, the mean of the last 10 epochs; 25,129,066 parameters.
"""

from configs.evaluate import common


def get_config():
    return common.xnor_resnet18(width=96)

"""WRN-28-10 on CIFAR-10 with substituted convolutions, with and without teacher and cutout (Gray et al. 2019's log).

A row is chosen after a colon, --config=configs/evaluate/wrn_compressed.py:separable_hashed. Rows with "teacher" learn
from the finished run of the row "dense_cutout", as the published ones do, whose workdir teacher.workdir names.
Published test errors:

dense, dense_cutout               about 4.0 % and 3.3 %; 36,479,194 parameters
hashed, hashed_teacher            6.48 % and 7.47 %, of a bank a third as large; 3,911,898 parameters
separable_hashed                  5.95 %; 3,911,898 parameters
separable_hashed_teacher          3.84 %
separable_hashed_teacher_cutout   3.99 %
acdc, acdc_permutation            5.23 % (riffle shuffle) and 5.35 %, 12 layers each

Command: python launch/evaluate.py --config=configs/evaluate/wrn_compressed.py --workdir=runs/wrn_compressed
Expected time: Not run: about a day on one GPU of 2018; describing a row takes 5 seconds.
Expected result: 5.95 % test error for the default row, by the log.
"""

from configs.evaluate import common

KINDS = {
    "dense": "none",
    "hashed": "hashed_decimate",
    "separable_hashed": "separable_hashed_decimate",
    "acdc": "acdc",
    "acdc_permutation": "acdc_permutation",
}
ROWS = (
    *("dense", "dense_cutout", "hashed", "hashed_teacher", "separable_hashed", "separable_hashed_teacher"),
    *("separable_hashed_teacher_cutout", "acdc", "acdc_permutation"),
)


def get_config(row: str = "separable_hashed"):
    common.chosen(row, dict.fromkeys(ROWS))
    config = common.wide_resnet()
    config.substitute.kind = KINDS[row.removesuffix("_cutout").removesuffix("_teacher")]
    config.substitute.setting = 12 if "acdc" in row else 0  # ACDC layers; the others have nothing to set
    config.data.cutout = 16 if row.endswith("_cutout") else 0
    if "teacher" in row:
        config.teacher.workdir = "runs/wrn_dense_cutout"
    return config

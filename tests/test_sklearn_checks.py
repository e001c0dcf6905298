"""scikit-learn's own checks, with the default estimator and no expected failure."""

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from skdec import DECClustering

# scikit-learn runs these on its own estimators only.
FURTHER_CHECKS = [
    "check_dataframe_column_names_consistency",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
    "check_get_feature_names_out_error",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_global_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_global_set_output_transform_polars",
    "check_param_validation",
    "check_inplace_ensure_writeable",
]

# The checks fit to 10 to 150 rows; whether self-training converges on them is not their subject.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@parametrize_with_checks([DECClustering()])
@pytest.mark.filterwarnings("default")
def test_estimator_passes_every_check_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", FURTHER_CHECKS)
@pytest.mark.filterwarnings("default")
def test_estimator_passes_what_scikit_learn_asks_of_itself(name):
    getattr(estimator_checks, name)("DECClustering", DECClustering())


def test_tags_say_deterministic_dense_clusterer():
    tags = DECClustering().__sklearn_tags__()
    assert tags.estimator_type == "clusterer"
    assert not tags.non_deterministic
    assert not tags.input_tags.sparse
    assert not tags.target_tags.required
    assert tags.transformer_tags.preserves_dtype == ["float64", "float32"]

"""DECClustering: the scikit-learn contract and the order of the stages."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, metadata
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, check_memory, validate_data
from torch import Tensor

from . import _persistence
from ._array_api import DISPATCHES, check_same_library, pack, take, to_numpy, unpack
from ._backend import available, resolve_device
from ._borders import at_borders
from ._callbacks import CallbackSupportMixin, Task, fit_task
from ._checkpoint import NO_CHECKPOINT, Checkpoint, NoCheckpoint, identity, words
from ._dask import answer_lazily, is_dask, refuse_dask
from ._distributed import ALONE, Alone, ranks
from ._inference import Embedding, inertia, soft_assignment
from ._initialization import (
    SCORE_MARGIN,
    best_partition,
    initial_centers,
    judged_rows,
    scores_by_number,
    weighted_means,
)
from ._judges import Judge, input_judge
from ._neighborhoods import PLAIN, Neighborhoods, neighborhoods
from ._networks import (
    Architecture,
    auto_embedding_dim,
    auto_hidden_dims,
    by_columns,
    weights_of,
)
from ._optimization import OptimizerSettings
from ._pretraining import (
    Pretrained,
    PretrainingSettings,
    PretrainingStopped,
    auto_neighbor_steps,
    auto_steps,
    check_finite,
    pretrain,
    train_decoder,
)
from ._rows import Rows, Scaling, distinct_rows, fit_scaling
from ._scaled_rows import ScaledRows, numpy_rows, scaled_rows
from ._self_training import (
    SelfTrained,
    SelfTrainingSettings,
    align,
    auto_update_interval,
    self_train,
)
from ._threads import Workers, plain_torch
from ._validation import (
    PARAMETER_CONSTRAINTS,
    check_can_be_distributed,
    check_data_limits,
    check_hidden_dims,
    check_init_centers,
    check_sample_weight,
    check_unit_interval,
    unchanged_on_failure,
)
from .metrics import relative_conductance

# Settings of the published experiments; what they leave open is listed in DECClustering's Notes.
_PAPERS = {
    "dec": {
        "hidden_dims": (500, 500, 2000),
        "embedding_dim": 10,
        "activation": "relu",
        "batch_norm": False,
        "weight_init": 0.01,
        "scaling": "norm",
        "pretraining": "layer-wise",
        "layerwise_steps": 50_000,
        "pretrain_steps": 100_000,
        "reconstruction_loss": "mse",
        "corruption": 0.2,
        "pretrain_optimizer": "sgd",
        "pretrain_learning_rate": 0.1,
        "pretrain_momentum": 0.9,
        "pretrain_decay": 20_000,
        "init": "k-means++",
        "n_init": 20,
        "alpha": 1.0,
        "target_distribution": "dec",
        "clustering_weight": 1.0,
        "reconstruction_weight": 0.0,
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "momentum": 0.9,
        "batch_size": 256,
        "update_interval": 140,
        "max_iter": 1000,
        "tol": 0.001,
    },
}
_PAPERS["idec"] = _PAPERS["dec"] | {
    "clustering_weight": 0.1,
    "reconstruction_weight": 1.0,
    "optimizer": "adam",
    "learning_rate": 0.001,
}


# Pretraining, initialisation, self-training, and the decoder's training after it.
_MOST_STAGES = 4


class DECClustering(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    ClusterMixin,
    BaseEstimator,
):
    """Deep Embedded Clustering: learn an embedding and a clustering together.

    The default is neither published recipe. It is DEC's method [1]_ with other first steps: the
    encoder is trained with neighbours in the input [3]_, not as part of an autoencoder,
    and the initial centres are those of the best of several partitions. For the published methods
    use ``DECClustering.from_paper("dec", n_clusters=...)`` [1]_ and
    ``DECClustering.from_paper("idec", n_clusters=...)`` [2]_.

    Three stages: the encoder learns an embedding Z that keeps neighbours together; a partition of
    the rows gives initial centres there; self-training moves encoder and centres so that the soft
    assignment Q (Student's t kernel, Eq. 1 of [1]_) approaches its own sharpened target P (Eq. 3),
    by minimising ``clustering_weight * KL(P || Q) + reconstruction_weight * L_r``. The decoder, the
    way back from Z, is fitted in the end, or with the reconstruction term L_r before the centres.

    Parameters
    ----------
    n_clusters : int or "auto", default=8
        Number of clusters. "auto" is as many as the rows fall into after pretraining, from 2 to 150
        if they are not all alike; with an array `init` as many as that has. At most 10,000 rows are
        put into up to 1,000 groups by k-means in the embedding, and these are joined two at a time,
        once those between which the largest share of the smaller one's edges is, in the graph of 15
        neighbours in the embedding, and once by Ward's method. The number is taken at which the
        better of the two partitions has the largest relative conductance there
        (:func:`skdec.metrics.relative_conductance`, edges weighing as for `init_scores_`), less
        0.03 times the logarithm of the number (`n_clusters_scores_`). It does not tell whether
        there are clusters at all.
    hidden_dims : "auto" or array-like of int, default="auto"
        Widths of the encoder's hidden layers; the decoder mirrors them. "auto" is
        min(384, w) and three times min(256, w), with w = 10 sqrt(number of distinct rows), rounded
        up to a multiple of 16: (384, 256, 256, 256) from 1,355 rows on. Published are (500, 500,
        2000), several times as many weights.
    embedding_dim : "auto" or int, default="auto"
        Width of the embedding. "auto" is 10, as published.
    activation : {"relu", "leaky_relu", "elu", "gelu", "silu", "tanh"}, default="relu"
        Activation of the hidden layers. Embedding and output are linear.
    batch_norm : bool, default=False
        Normalise each hidden layer over the mini-batch.
    weight_init : {"fan_in", "he"} or float, default="fan_in"
        Initial weights: a uniform law between plus and minus 1/sqrt(inputs of the layer), He's
        uniform law, which is sqrt(6) times as wide, or a normal law with this standard
        deviation (published: 0.01). Biases are 0.
    autoencoder : class or callable, default=None
        The user's own network instead of the built-in one: called with
        ``(n_features, embedding_dim)``, returns a :class:`torch.nn.Module` with submodules
        `encoder`, from (n, n_features) to (n, embedding_dim), and `decoder`, back again (with
        ``reconstruction_loss="bce"`` to logits). `hidden_dims`, `activation`, `batch_norm` and
        `weight_init` are then ignored. It is called again when a fitted model is loaded, so it
        must be importable to be pickled, and its `state_dict` must hold all that it learns or
        draws. Frozen parameters and weights that both halves share are allowed; a decoder with such
        weights is not trained alone, so that it decodes well only after "end-to-end" or
        "layer-wise". A class or function, not an instance: scikit-learn clones parameters.
    scaling : {"auto", "center", "norm", "range"} or None, default="auto"
        What is done to the input. "center": subtract each feature's mean and divide all by one
        number, so that ||x||^2 / n_features is 1 on average. "norm": the same without
        centring, as published. "range": one shift and one scale take all values to [0, 1].
        None: nothing. Features are never scaled one by one: put a `StandardScaler` before
        this estimator where units differ. "auto" is "range" for ``reconstruction_loss="bce"``,
        else "center".
    pretraining : {"neighbors", "end-to-end", "layer-wise"}, default="neighbors"
        "end-to-end" trains the whole autoencoder. "layer-wise" trains a denoising autoencoder
        for each pair of layers in turn, as published, before that. "neighbors" trains no
        autoencoder: the nearest neighbours of each row in the input are found once, and the encoder
        is trained on mini-batches of rows, each with two of its neighbours, with the contrastive
        loss InfoNCE in the kernel of DEC's Eq. 1 [3]_. Of up to 100 features those in which many
        rows are equal, as a yes or no, count less there, and their values are spread at random: see
        the user guide. Inputs of more than 100 features are compared by the direction of their 50
        leading principal components, or of 100, 200, 400 or 800 where two random halves of the
        features then agree better who is close to whom. If these agree so well that five neighbours
        are enough (see `n_neighbors`), those of the 30 nearest, or of twice as many as are wanted,
        are taken of whose difference ridge regression on the differences to a row's five nearest
        leaves least, for the one or the other of the two rows, whichever is more [6]_. While that
        lasts, the network's first layer, if it is a `torch.nn.Linear` with bias, takes the 100
        leading principal components of wider inputs, or as many. The decoder is trained alone: with
        squared errors its last layer, if it is one like that, is fitted to give these components by
        ridge regression on what the layers before it give, whose weights stay as they are drawn.
    pretrain_steps : "auto" or int, default="auto"
        Mini-batch steps of training the whole autoencoder. "auto" is 8 times the square root of
        the number of distinct rows: 800 for 10,000 rows. Adam and SGD need several times as many.
        Where the decoder is trained alone in mini-batches, that takes a sixth of them, at least 100
        (of "auto").
    layerwise_steps : "auto" or int, default="auto"
        Mini-batch steps for each pair of layers, if "layer-wise". "auto" as above.
    neighbor_steps : "auto" or int, default="auto"
        Mini-batch steps of training with neighbours, if "neighbors". "auto" is 7 times the square
        root of the number of distinct rows.
    neighbor_learning_rate : float, default=0.03
        Initial learning rate of training with neighbours; optimiser and decay are those of
        pretraining.
    n_neighbors : "auto" or int, default="auto"
        Neighbours of each row, if "neighbors"; fewer if there are not as many rows. It
        should not exceed the size of the smallest cluster. "auto" is 5, and up to 20 where there
        are more than 100 features and two random halves of them disagree about who is a neighbour
        of whom: the share that the other half confirms, times the root of their number, comes to
        1.6. Of more than 16,384 rows a few are not the nearest: they are sought in cells of
        k-means, a row's own and those near to it, of 8,192 rows or a few more. With fewer than 16
        features, and then whatever the number of rows, a few are up to 1.3 times as far away as
        the nearest; of more than 131,072 rows they are sought in random blocks of at most as many.
    reconstruction_loss : {"mse", "bce"}, default="mse"
        Squared error or binary cross-entropy, averaged over features and rows.
    corruption : float, default=0.2
        Share of each layer's inputs that is set to 0 in layer-wise pretraining; in [0, 1).
    pretrain_optimizer : {"muon", "adam", "sgd"}, default="muon"
        Optimiser of pretraining. "muon" makes the singular values of each step's momentum nearly
        equal [5]_, here for at most 64 rows of a weight matrix at a time.
    pretrain_learning_rate : float, default=0.01
        Initial learning rate of pretraining; with "muon" about the distance by which a step moves
        the weights of a neuron. Usual for "adam" are 0.001, and 0.002 with neighbours.
    pretrain_momentum : float, default=0.9
        Momentum of "muon" and "sgd" in pretraining; in [0, 1).
    pretrain_decay : {"linear", "cosine"}, int or None, default="linear"
        Decay of that rate: to zero along a line or a cosine, a division by ten after every so many
        mini-batch steps (published: 20,000), or none.
    init : {"auto", "k-means++", "random"}, array-like or callable, default="auto"
        Initial centres, refined by k-means in the embedding. Names as in
        :class:`~sklearn.cluster.KMeans`. An array of shape (n_clusters, n_features) gives them
        in the input space; a callable is called as ``init(X, n_clusters,
        random_state=random_state)`` with the distinct rows and returns such an array. "auto"
        makes several partitions of at most 10,000 rows, or 10 for each cluster (k-means of the
        input, of its 50 leading principal components if it is wider, and of the embedding;
        below 2,000 clusters also spectral clustering and Ward's linkage of small groups of rows,
        and below 500 groups of the input joined by the edges between them), takes the one that best
        keeps to the neighbourhoods of the input and of the embedding, or what those that may be the
        best agree on (`init_scores_`), moves each row to the cluster whose Gaussian in the
        embedding is the likeliest, unless this lowers the mean of the two graphs' scores, all edges
        counting alike, by more than 0.4 / sqrt(pairs of the input's graph) (k-means of the input
        stays as it is), and trains network and centres to agree with the result. Where five
        neighbours of wide rows are enough (see `n_neighbors`), rows at a border are first put into
        the cluster of which ridge regression on the nearest rows leaves least of them [6]_.
        Self-training that lowers the score of the input by more than 0.01 is undone.
    n_init : int, default=10
        Restarts of k-means, the best of which is kept (published: 20).
    alpha : float, default=1.0
        Degrees of freedom of Student's t kernel; in [1e-6, 1e6].
    target_distribution : "dec" or callable, default="dec"
        Target P of self-training: Eq. 3, or the user's ``target_distribution(Q,
        sample_weight)``, called with torch tensors of shapes (n_rows, n_clusters) and (n_rows,)
        once a round. It returns non-negative rows that sum to 1.
    clustering_weight : float, default=1.0
        Weight of KL(P || Q) in the loss of self-training; IDEC's gamma.
    reconstruction_weight : float, default=0.0
        Weight of the reconstruction loss in the loss of self-training: 0 is DEC, 1 is IDEC.
    optimizer : {"sgd", "adam"}, default="sgd"
        Optimiser of self-training.
    learning_rate : float, default=0.01
        Learning rate of self-training, constant.
    momentum : float, default=0.9
        Momentum of "sgd" in self-training; in [0, 1).
    batch_size : int, default=256
        Rows of a mini-batch, at most (published: 256). In training with neighbours about two
        thirds of them take part, with two neighbours each.
    update_interval : "auto" or int, default="auto"
        Mini-batch steps between two updates of the target; a *round*. "auto" is one epoch, but
        at most the square root of the number of distinct rows and at least 30.
    max_iter : int, default=100
        Rounds of self-training, at most. 0 leaves out self-training: with a named `init`,
        autoencoder + k-means.
    tol : float, default=0.001
        Self-training has converged when less than this share of the labels (by weight)
        changed in a round.
    device : str, default="auto"
        "cpu", "cuda", "mps" or another torch device; "auto" takes CUDA or MPS if
        there is one.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Precision of matrix products while training. "auto" is bfloat16 where the hardware has
        units for it (AMX, AVX512-BF16, CUDA from compute capability 8), the built-in network has at
        least 2^18 weights and there are more than 100 features: its 8 bits blur rows of a few.
        Losses, centres, assignments and all predictions are float32 or float64. A network with
        buffers (batch normalisation) trains in float32.
    memory : str or object with the joblib.Memory interface, default=None
        Where to cache pretraining, as in :class:`~sklearn.pipeline.Pipeline`. It does not depend
        on `n_clusters` nor on parameters of self-training alone: with an int `random_state`, a
        sweep over them pretrains once. Clear it when the code of your own `autoencoder` or
        the version of skdec or torch changes.
    checkpoint : str or path-like, default=None
        File in which `fit` keeps what it has reached. When the process is killed, at whatever
        moment, the same call goes on from there and ends with the same bits as without the
        break; with ``random_state=None`` too, because the seeds are in the file. The file is
        deleted at the end of `fit`: save the model then. It belongs to one fit at a time: with
        other data, weights, parameters or versions, or damaged, it is refused, not overwritten.
        Of functions and classes given as parameters only the names are compared.
    checkpoint_interval : float, default=300
        Seconds of training after which `checkpoint` is written again. It is also written at the
        end of each stage of training. 0 is at every mini-batch step.
    accept_sparse : bool, default=False
        Whether a sparse `X` is taken instead of refused: as CSR, of which a batch of rows is made
        dense at a time. The result is that of the same rows given dense.
    verbose : int, default=0
        With 1, a line for each round of self-training and about ten for each other training.
    random_state : int, RandomState instance or None, default=None
        Seed of weights, mini-batches and initial centres. With an int, two fits to the same
        rows give the same bits, in whatever order the rows come.
    distributed : bool, default=False
        With True, several processes fit one model together: each calls `fit` with its own rows
        under ``torchrun``, after :func:`torch.distributed.init_process_group`. It needs torch 2.8
        or newer. See the Notes.

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,), int32
        Cluster of each row, counting up from 0; the same as ``predict(X)``.
    cluster_centers_ : ndarray of shape (n_clusters, embedding_dim)
        Centres in the embedding. ``inverse_transform(cluster_centers_)`` are prototypes.
    n_clusters_ : int
        Number of clusters, also those that were given a centre but no row.
    n_clusters_scores_ : list of float
        With ``n_clusters="auto"``, the scores of 2, 3 and so on clusters; the number with the
        largest was taken. Empty otherwise.
    inertia_ : float
        Weighted sum of squared distances to the closest centre, in the embedding.
    n_iter_ : int
        Rounds of self-training, those that were undone among them.
    converged_ : bool
        Whether `tol` was reached.
    pretrain_loss_curve_ : list of float
        Mean reconstruction loss of each epoch of the whole autoencoder's pretraining; if
        "neighbors", of the decoder's training, of one entry where it is fitted by regression, empty
        where it is not trained and before it is.
    layerwise_loss_curves_ : list of list of float
        The same for each pair of layers; empty without layer-wise pretraining.
    neighbor_loss_curve_ : list of float
        Mean loss of each epoch of training with neighbours; empty without.
    init_scores_ : dict of str to float
        With ``init="auto"``, the score of each candidate partition by its name. The first was
        taken, the others follow by falling score. A cluster's conductance is the share of a
        graph's edges that lead out of it, divided by what it is by chance, and the score is 1 less
        its mean over the clusters, with the roots of their edges as weights; each counts as if it
        had 10 pairs more, joined by chance. There are two graphs of rows which are among each
        other's nearest neighbours: 7 in the input (compared as for `pretraining`), and 15 in the
        embedding, where an edge weighs the root of its ends' similarity 1 / (1 + ||z - z'||^2).
        What the score lacks to 1 is the geometric mean of what those of the two lack, with weights
        1/3 and 2/3. k-means of the input has the best other candidate's score for the latter: the
        input decides, with the score of k-means of the input raised there by the standard error of
        the other's, sqrt(p (1 - p) / pairs of the graph) / c for the share p of pairs that the
        clusters part and c = 1 - 1 / n_clusters, less 5 (n_clusters / rows)^2. If it is the best
        then, it is taken. Else each candidate is the right one with a probability in
        proportion to exp((score - best score) / d) / v^(rows / 4,000), where d is half the square
        of what its own score in the input lacks to 1 and v the embedding's variance within its
        clusters, and the one is taken that is expected to agree most (adjusted Rand index) with the
        right one. "consensus" is made of all candidates by these probabilities, by average linkage
        of groups of rows, where several may be right.
        Empty where the centres are those of k-means in the embedding.
    kl_curve_ : list of float
        KL(P || Q) over all rows at the end of each round, P being the round's target.
    label_change_curve_ : list of float
        Share of the labels (by weight) that changed in each round.
    reconstruction_error_ : float
        Mean squared difference between a value of `X` and its reconstruction, in squared units
        of `X`. Without reconstruction term the decoder has been fitted to the final embedding,
        after an autoencoder's pretraining again.
    autoencoder_ : torch.nn.Module
        The trained network with its `encoder` and `decoder`, on the scaled input.
    hidden_dims_ : tuple of int
        Widths of the built-in network's hidden layers; empty with an `autoencoder`.
    device_ : str
        The torch device that was used.
    n_features_in_ : int
        Number of features seen in `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if `X` had names that are all strings.

    Warns
    -----
    ConvergenceWarning
        If fewer distinct clusters than `n_clusters` were found, if the best of several initial
        partitions could not be taken over, if self-training ended without converging, if rounds of
        self-training were undone because a cluster died in them, or if all of it was undone because
        the clusters were better before.

    See Also
    --------
    sklearn.cluster.KMeans : Clusters in the input space; much faster.
    sklearn.mixture.GaussianMixture : Soft assignment in the input space.

    Notes
    -----
    *Deviations from the papers*, also with `from_paper`:

    - Losses are means over the mini-batch, and the reconstruction loss is a mean over features
      too; the papers do not state the normalisation.
    - The target P is computed from all rows once a round, by weight. The DEC paper leaves the
      interval open; 140 steps are IDEC's choice for MNIST.
    - SGD has momentum 0.9; the DEC paper gives no number.
    - A round that leaves fewer non-empty clusters than before it, or weights that are not finite,
      is undone and tried again with a tenth of the learning rate; the third time self-training
      ends there.
    - Repeated rows are merged into one row of summed weight, so that mini-batches hold distinct
      rows. A mini-batch is drawn without replacement within an epoch.
    - With ``reconstruction_weight=0`` the decoder is fitted in the end, after an autoencoder's
      pretraining again, so that `inverse_transform` is honest: its last layer by ridge regression,
      or, if that is not a `torch.nn.Linear` with bias or errors are not squared, all of it by Muon.
      The clustering is not touched by it.
    - On hardware with bfloat16 units training uses them; ``precision="float32"`` does not.

    *One truth.* `labels_`, ``predict(X)``, ``predict_proba(X).argmax(axis=1)`` and the nearest
    centre of ``transform(X)`` agree; there is no second k-means at the end. A row's prediction is
    the same bits alone and in any company.

    *Reproducibility.* With an int `random_state` two fits on the CPU of the same machine with the
    same library versions give the same bits, whatever the number of threads (on Linux; on other
    systems kernels may use more than one): work is cut into pieces that do not depend on it.
    Other processors and other versions round differently, and training amplifies that. No global
    random state is read or written.

    *Accelerators.* On CUDA steps are recorded as graphs and neighbours are sought on the device;
    an NVIDIA H200 was measured. Fits are as good there, but no two of them are promised to be the
    same. While a step is recorded, for some milliseconds at the beginning of each stage, another
    thread that draws from torch's default CUDA generator gets an error from torch. MPS is
    reached by the same code, which has not been run there.

    *Inference.* `predict`, `predict_proba` and `transform` go over the rows in blocks by
    themselves. Beside `X` they take about 12 embedding_dim + 8 n_clusters bytes a row, the result
    among them, and some 50 MB; on the device less than that. When an accelerator has no memory for
    a block, they go on with smaller ones. A single row costs as much as 4 on the CPU where the
    machine's kernels give it the same bits then, else as 16.

    *Several processes.* With ``distributed=True``, `fit` takes the rows of each rank of torch's
    default process group and ends on all ranks with one model, to the bit; `labels_` are those of
    the rank's own rows. Deal the rows out at random, about equally many to each rank; every rank
    needs some of positive weight. Scaling, the frequencies of Eq. 3, losses, scores and all
    decisions are those of all rows. The ranks share out each mini-batch of `batch_size` rows (give
    it 64 rows a rank or more) and step down the gradient of all of it; each owns a part of the
    weights, which it alone updates [4]_. What is not as in one process: repeated rows are merged
    and neighbours found within a rank (its share of `n_neighbors`, rounded up), and k-means and
    spectral clustering run on rank 0, to which the others send their embeddings and a share of
    10,000 rows. On the CPU of one Linux machine gradients and weights go through shared memory;
    otherwise they are sent at every step, in bfloat16 some 4 bytes for each weight. Batch
    normalisation takes the statistics of a rank's part of the batch. The same bits come out again
    for the same number of ranks with the same rows. Parameters must be the same on all ranks, but
    for `device` and `verbose`. `memory`, `checkpoint` and a callable `init` or
    `target_distribution` are refused. Models that callbacks see in between have the `inertia_` and
    `reconstruction_error_` of their rank's rows. If a rank fails, the others get a RuntimeError;
    one that does not call `fit` within 5 minutes of the others, or later lets them wait for 30,
    counts as failed. The ranks talk by gloo, and by nccl between GPUs, which has not been tried.

    *Tensors.* CPU tensors of torch are taken like arrays; results are numpy. With
    ``sklearn.config_context(array_api_dispatch=True)`` and scikit-learn 1.9 or newer, results and
    fitted arrays are in the library of `X` and on its device, and `X` must stay in those of
    `fit`. The work in between goes through numpy and the parameter `device`, so that no
    gradient passes: detach first. :func:`skdec.onnx.to_onnx` exports a fitted model.

    *Larger than memory.* A :class:`numpy.memmap` of any dtype, and sparse rows with
    `accept_sparse`, are never copied as a whole, neither in `fit` nor in what takes rows later:
    batches and blocks of at most 32 MB (in float64) are scaled one at a time, to the same bits as
    for the array in memory. The same goes for arrays in memory of less than four bytes a value
    while training on the CPU; of others training keeps a float32 copy on the device. Beside the
    network and some blocks, `fit` then takes about 1,800 bytes for each row at ten clusters of the
    default embedding, whatever the number of features, and up to 512 MB and 23 kB a feature more
    where neighbours are sought in more components than 50. A callable `init` is given all distinct
    rows at once, as they are. `score` and the choice among partitions look at 10,000 rows, or 10
    for each cluster; `fit` holds these in float32 if they are at most 128 MB.

    *Confidence.* Self-training sharpens Q also on data without clusters. Neither `predict_proba`
    nor a silhouette in the embedding tells clusters from noise. A low
    :func:`skdec.metrics.stability` does, at the cost of two fits to half of the rows.

    *Callbacks*, with scikit-learn 1.9 or newer. `set_callbacks` takes scikit-learn's
    (``sklearn.callback.ProgressBar`` needs rich: ``pip install 'skdec[progress]'``) and your own.
    The tasks of "fit" are "pretraining" (its tasks "layer 1" and so on, "autoencoder",
    "neighbors" and "decoder", as `pretraining` says, each of tasks "epoch"), "initialization",
    "self-training" (of tasks "round") and "decoder" (of tasks "epoch", unless it is fitted by
    regression). A callback whose
    ``on_fit_task_end`` returns True for an epoch or a round ends their stage there; the next stages
    follow, so that the model is complete. For other tasks the answer is of no consequence.
    Callbacks that ask for `fitted_estimator` have one at the end of "initialization", of each round
    and of "fit"; its decoder is trained as far as it is then, after "neighbors" not at all. `y` is
    given to callbacks only. What comes out of `memory` has no tasks; what was stopped does not go
    in. Epochs and rounds that a `checkpoint` has are no tasks of the fit that goes on from it; what
    was stopped before stays stopped.

    References
    ----------
    .. [1] Xie, Girshick, Farhadi. "Unsupervised Deep Embedding for Clustering Analysis".
       ICML 2016, arXiv:1511.06335.
    .. [2] Guo, Gao, Liu, Yin. "Improved Deep Embedded Clustering with Local Structure
       Preservation". IJCAI 2017, doi:10.24963/ijcai.2017/243.
    .. [3] Damrich, Böhm, Hamprecht, Kobak. "From t-SNE to UMAP with contrastive learning".
       ICLR 2023, arXiv:2206.01816.
    .. [4] Rajbhandari, Rasley, Ruwase, He. "ZeRO: Memory Optimizations Toward Training Trillion
       Parameter Models". SC 2020, arXiv:1910.02054.
    .. [5] Jordan et al. "Muon: An optimizer for hidden layers in neural networks". 2024,
       https://kellerjordan.github.io/posts/muon/.
    .. [6] Vincent, Bengio. "K-Local Hyperplane and Convex Distance Nearest Neighbor Algorithms".
       NIPS 2001.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skdec import DECClustering
    >>> X = load_iris().data
    >>> dec = DECClustering(n_clusters=3, random_state=1).fit(X)
    >>> dec.predict(X[:3]).shape
    (3,)
    >>> dec.transform(X[:3]).shape
    (3, 10)
    >>> dec.inverse_transform(dec.cluster_centers_).shape
    (3, 4)
    """

    _parameter_constraints = PARAMETER_CONSTRAINTS

    def __init__(
        self,
        n_clusters=8,
        *,
        hidden_dims="auto",
        embedding_dim="auto",
        activation="relu",
        batch_norm=False,
        weight_init="fan_in",
        autoencoder=None,
        scaling="auto",
        pretraining="neighbors",
        pretrain_steps="auto",
        layerwise_steps="auto",
        neighbor_steps="auto",
        neighbor_learning_rate=0.03,
        n_neighbors="auto",
        reconstruction_loss="mse",
        corruption=0.2,
        pretrain_optimizer="muon",
        pretrain_learning_rate=0.01,
        pretrain_momentum=0.9,
        pretrain_decay="linear",
        init="auto",
        n_init=10,
        alpha=1.0,
        target_distribution="dec",
        clustering_weight=1.0,
        reconstruction_weight=0.0,
        optimizer="sgd",
        learning_rate=0.01,
        momentum=0.9,
        batch_size=256,
        update_interval="auto",
        max_iter=100,
        tol=0.001,
        device="auto",
        precision="auto",
        memory=None,
        checkpoint=None,
        checkpoint_interval=300,
        accept_sparse=False,
        verbose=0,
        random_state=None,
        distributed=False,
    ):
        self.n_clusters = n_clusters
        self.hidden_dims = hidden_dims
        self.embedding_dim = embedding_dim
        self.activation = activation
        self.batch_norm = batch_norm
        self.weight_init = weight_init
        self.autoencoder = autoencoder
        self.scaling = scaling
        self.pretraining = pretraining
        self.pretrain_steps = pretrain_steps
        self.layerwise_steps = layerwise_steps
        self.neighbor_steps = neighbor_steps
        self.neighbor_learning_rate = neighbor_learning_rate
        self.n_neighbors = n_neighbors
        self.reconstruction_loss = reconstruction_loss
        self.corruption = corruption
        self.pretrain_optimizer = pretrain_optimizer
        self.pretrain_learning_rate = pretrain_learning_rate
        self.pretrain_momentum = pretrain_momentum
        self.pretrain_decay = pretrain_decay
        self.init = init
        self.n_init = n_init
        self.alpha = alpha
        self.target_distribution = target_distribution
        self.clustering_weight = clustering_weight
        self.reconstruction_weight = reconstruction_weight
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.batch_size = batch_size
        self.update_interval = update_interval
        self.max_iter = max_iter
        self.tol = tol
        self.device = device
        self.precision = precision
        self.memory = memory
        self.checkpoint = checkpoint
        self.checkpoint_interval = checkpoint_interval
        self.accept_sparse = accept_sparse
        self.verbose = verbose
        self.random_state = random_state
        self.distributed = distributed

    @classmethod
    def from_paper(cls, paper, n_clusters=8, **params):
        """An unfitted estimator with the settings of a published method.

        Parameters
        ----------
        paper : {"dec", "idec"}
            "dec" is Deep Embedded Clustering [1]_: layer-wise denoising pretraining of
            d-500-500-2000-10, 50,000 steps a layer and 100,000 for all, SGD; then KL alone.
            "idec" is Improved DEC [2]_: the same network and pretraining, then
            reconstruction + 0.1 KL by Adam, as published for MNIST (for USPS:
            ``optimizer="sgd", learning_rate=0.1, momentum=0.99, update_interval=30``).
        n_clusters : int or "auto", default=8
            The number of clusters.
        **params
            Any other parameter, in place of the published value.

        Returns
        -------
        estimator : DECClustering
            To be fitted. What the papers leave open is listed in the class's Notes.

        Raises
        ------
        ValueError
            If `paper` is not one of the above.

        Notes
        -----
        The scale of the input is the one that [1]_ states, ||x||^2 / n_features = 1 on average. The
        authors' program had MNIST's pixels from 0 to 5.1, a mean square of 2.6, and that is what
        reaches the published accuracy in ``benchmarks/paper.py``: give such rows with
        ``scaling=None``.

        References
        ----------
        .. [1] Xie, Girshick, Farhadi. "Unsupervised Deep Embedding for Clustering
           Analysis". ICML 2016, arXiv:1511.06335.
        .. [2] Guo, Gao, Liu, Yin. "Improved Deep Embedded Clustering with Local Structure
           Preservation". IJCAI 2017.

        Examples
        --------
        >>> from skdec import DECClustering
        >>> DECClustering.from_paper("dec", n_clusters=10).layerwise_steps
        50000
        """
        if paper not in _PAPERS:
            raise ValueError(f"paper must be one of {sorted(_PAPERS)}. Got {paper!r} instead.")
        return cls(n_clusters, **{**_PAPERS[paper], **params})

    # --- Fitting ---

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Learn the embedding and the clusters of `X`.

        After a failure or an interruption the estimator is as it was before the call. With a
        `checkpoint`, the next call then goes on from there.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to cluster, finite numbers of any dtype; never modified. Of a
            :class:`numpy.memmap` rows are read when they are needed. Sparse with `accept_sparse`.
        y : Ignored
            Not used, whatever it is; given to callbacks, if there are any.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the rows. A weight of two is the same as the row given
            twice, and a weight of zero the same as the row left out.

        Returns
        -------
        self : DECClustering
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter, `X` or `sample_weight` is not as documented, if there are fewer
            rows of positive weight than clusters, if pretraining diverges, if `checkpoint` is
            not one of this fit, or if ``distributed=True`` without a process group or with
            parameters that are not the same on all ranks.
        RuntimeError
            With ``distributed=True``, if another rank failed or does not answer.
        ImportError
            With ``distributed=True``, if torch is older than 2.8.
        TypeError
            If `X` is of dask or, without `accept_sparse`, sparse, or if `autoencoder` does not give
            a network.
        NotImplementedError
            If `autoencoder` draws random numbers in a way that cannot be made reproducible.
        """
        refuse_dask(X, "X", "fit")
        task = fit_task(self, X, y, sample_weight, _MOST_STAGES)
        with unchanged_on_failure(self), self._group() as group, task, plain_torch():
            X, back = take(X)
            X = self._valid_rows(X, reset=True)
            sample_weight = check_sample_weight(sample_weight, X)
            group.agree(self._of_all_ranks(X))
            n_samples = group.sum(np.count_nonzero(sample_weight))
            check_data_limits(n_samples, _resolve(self.n_clusters, 1))
            device, n_workers = resolve_device(self.device), torch.get_num_threads()
            rows = distinct_rows(X, sample_weight, group)
            check_unit_interval(rows.extremes, self.scaling, self.reconstruction_loss)
            plan = self._plan(rows, device, group)

            scaling = fit_scaling(rows, self._scaling_kind(), group)
            x = scaled_rows(rows, scaling, device)
            weight = torch.from_numpy(rows.weight).float().to(device)
            plan = plan._replace(hoods=self._neighborhoods(x, plan, n_workers, group))
            pretrained = self._pretrain(rows, scaling, x, weight, plan, n_workers, task, group)
            autoencoder = plan.architecture.load(pretrained.weights, device)
            embedding = Embedding(autoencoder, scaling, self.reconstruction_loss == "bce")

            with Workers(n_workers) as workers:
                nearest = pretrained.nearest
                run = _Run(rows, x, weight, plan, embedding, nearest, workers, task, group)
                fitted = partial(
                    self._attributes, X, back, sample_weight, plan, pretrained, workers
                )

                def snapshot(trained):  # for callbacks: the network is trained on
                    return fitted(embedding.copied(plan.architecture), initial, trained)

                with task.subtask("initialization") as stage:
                    initial = self._initialize(run)
                    stage.attributes = lambda: snapshot(SelfTrained(initial.centers))
                trained = self._self_train(run, initial, snapshot)
                decoder_curve = self._train_decoder(run, initial, trained)
                by_columns(embedding.autoencoder)
                vars(self).update(fitted(embedding, initial, trained, decoder_curve, group))
            sizes = np.bincount(to_numpy(self.labels_), sample_weight > 0, self.n_clusters_)
            n_found = np.count_nonzero(group.sum(sizes))
            task.attributes = dict  # none that the estimator has not
        plan.checkpoint.remove()
        self._warn(n_found, initial, trained)
        return self

    def fit_predict(self, X, y=None, sample_weight=None):
        """Fit to `X` and return the labels of its rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to cluster.
        y : Ignored
            Not used, present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        labels : ndarray of shape (n_samples,), int32
            `labels_`, the cluster of each row.
        """
        return self.fit(X, y, sample_weight=sample_weight).labels_

    def fit_transform(self, X, y=None, sample_weight=None):
        """Fit to `X` and return the embedding of its rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to cluster.
        y : Ignored
            Not used, present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        Z : ndarray of shape (n_samples, embedding_dim)
            The same as ``fit(X).transform(X)``, float32 if `X` is, else float64.
        """
        return self.fit(X, y, sample_weight=sample_weight)._answer("transform", X)

    # --- Using a fitted model ---

    def predict(self, X):
        """Cluster of each row: the one with the nearest centre in the embedding.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, seen in `fit` or new. Of a dask collection the result is a dask array, lazy.

        Returns
        -------
        labels : ndarray of shape (n_samples,), int32
            Cluster labels; the same as ``predict_proba(X).argmax(axis=1)``.

        Raises
        ------
        NotFittedError
            If the estimator has not been fitted.
        ValueError
            If `X` is not finite or has another number of features than in `fit`.
        """
        return self._answer("predict", X)

    def predict_proba(self, X):
        """Soft assignment Q of each row, Eq. 1 of the paper.

        Self-training sharpens Q whether or not there are clusters in the data: a confident Q
        is no evidence that the clusters are real. :func:`skdec.metrics.stability` gives some.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, seen in `fit` or new. Of a dask collection the result is a dask array, lazy.

        Returns
        -------
        Q : ndarray of shape (n_samples, n_clusters), float64
            Non-negative rows that sum to 1.

        Raises
        ------
        NotFittedError
            If the estimator has not been fitted.
        ValueError
            If `X` is not finite or has another number of features than in `fit`.
        """
        return self._answer("predict_proba", X)

    def transform(self, X):
        """Embedding Z of each row (not, as in KMeans, its distances to the centres).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, seen in `fit` or new. Of a dask collection the result is a dask array, lazy,
            unless `set_output` asks for a table of all rows.

        Returns
        -------
        Z : ndarray of shape (n_samples, embedding_dim)
            float32 if `X` is, else float64 (values computed in float32).

        Raises
        ------
        NotFittedError
            If the estimator has not been fitted.
        ValueError
            If `X` is not finite or has another number of features than in `fit`.
        """
        return self._answer("transform", X)

    def inverse_transform(self, Z):
        """Rows of the input that the decoder gives for rows of the embedding.

        ``inverse_transform(cluster_centers_)`` are the prototypes of the clusters.

        Parameters
        ----------
        Z : array-like of shape (n_samples, embedding_dim)
            Rows of the embedding.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            On the scale of the input; float32 if `Z` is, else float64.

        Raises
        ------
        NotFittedError
            If the estimator has not been fitted.
        ValueError
            If `Z` has another number of columns than the embedding.
        TypeError
            If `Z` is of dask.
        """
        check_is_fitted(self)
        refuse_dask(Z, "Z", "inverse_transform")
        check_same_library(Z, self, "inverse_transform")
        Z, back = take(Z)
        Z = check_array(Z, dtype="numeric", input_name="Z")
        if Z.shape[1] != self._n_features_out:
            raise ValueError(
                f"Z has {Z.shape[1]} features, but the embedding of {type(self).__name__} has "
                f"{self._n_features_out}."
            )
        with Workers() as workers:
            return back(_like(Z, self._embedding().decode(Z, workers)))

    def score(self, X, y=None, sample_weight=None):
        """How well the predicted clusters of `X` agree with its neighbourhoods; larger is better.

        How much harder the clusters that ``predict(X)`` gives are to cut in two than to part from
        each other, on the nearest-neighbour graph of `X` itself
        (:func:`skdec.metrics.relative_conductance`). The graph does not depend on the embedding,
        so that scores of models with other embeddings and other `n_clusters` compare; the
        negative inertia of KMeans.score would prefer the largest `n_clusters`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, seen in `fit` or new.
        y : Ignored
            Not used, present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        score : float
            From 0 to 1; below 1/2 for clusters without regard to neighbourhoods, 0 for one cluster.

        Raises
        ------
        NotFittedError
            If the estimator has not been fitted.
        ValueError
            If `X` is not finite or has another number of features than in `fit`.
        """
        refuse_dask(X, "X", "score")
        X, _ = self._take(X, "score")
        return relative_conductance(X, self._labels(X), sample_weight=sample_weight)

    def save(self, path):
        """Write the fitted model to a file that holds numbers and text but no code.

        One safetensors file, with a checksum: parameters, fitted attributes and weights, among
        them `labels_`, but no row of `X` (unless you gave some as `init`). An older file at
        `path` is replaced, whole or not at all.

        Some things are not saved. The code of your own `autoencoder`: give it again to `load`.
        `memory` and `checkpoint`, which are places on this machine, and what `set_callbacks` and
        `set_fit_request` and its kind have set: a warning says so. Other
        parameters that are code or a state (a callable `init` or `target_distribution`, a
        RandomState): set them to something else first, for example
        ``model.set_params(random_state=0)``; that leaves the fitted model as it is.

        Parameters
        ----------
        path : path-like
            Where to write; any name will do, by custom it ends in ".safetensors".

        Raises
        ------
        NotFittedError
            If the estimator has not been fitted.
        ValueError
            If a parameter or attribute cannot be kept; nothing is written.
        OSError
            If the file cannot be written.

        See Also
        --------
        load : Read the file.

        Examples
        --------
        >>> import os, tempfile
        >>> from sklearn.datasets import load_iris
        >>> from skdec import DECClustering
        >>> X = load_iris().data
        >>> dec = DECClustering(n_clusters=3, max_iter=0, init="k-means++", random_state=0)
        >>> dec = dec.set_params(pretrain_steps=20, neighbor_steps=20).fit(X)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "iris.safetensors")
        ...     dec.save(path)
        ...     loaded = DECClustering.load(path)
        >>> bool((loaded.predict_proba(X) == dec.predict_proba(X)).all())
        True
        """
        check_is_fitted(self)
        _persistence.save(self, path)

    @classmethod
    def load(cls, path, *, autoencoder=None, device=None):
        """A fitted model from a file that `save` has written.

        No code in the file is executed, there is none. All of it is checked before the
        model is built; the checksum tells damage, it does not tell who wrote the file.
        Predictions are the same bits as before on the same kind of machine with the same library
        versions. Another processor, device or version adds up float32 numbers in another order:
        the tests allow a relative difference of 1e-4, or an absolute one of 1e-5, to what a kept
        model once gave.

        Parameters
        ----------
        path : path-like
            The file.
        autoencoder : class or callable, default=None
            The `autoencoder` that the model was fitted with, if any.
        device : str, default=None
            Where to put the network, in place of the parameter `device`. None is the device
            that the model was fitted on, or the CPU where there is no such device.

        Returns
        -------
        model : DECClustering
            With the parameters and all fitted attributes of the saved one; `memory` and
            `checkpoint` are None.

        Raises
        ------
        ValueError
            If the file is damaged, was not written by `save` or by a newer version of its
            format, if `autoencoder` is missing or has other weights than those in the file, or
            if `device` is not available.
        TypeError
            If `autoencoder` does not give a network.
        OSError
            If the file cannot be read.

        See Also
        --------
        save : Write the file, with an example.
        """
        return _persistence.load(cls, path, autoencoder, device)

    # --- The predict path, in numpy ---

    def _answer(self, method, X):
        """What `method` gives for the rows of `X`; for those of dask, when it is computed."""
        if is_dask(X):
            return answer_lazily(self, method, X)
        X, back = self._take(X, method)
        compute = {
            "predict": self._labels,
            "predict_proba": self._soft_assignment,
            "transform": self._embedded,
        }[method]
        return back(compute(X))

    def _take(self, X, method):
        """Valid rows for `method`, and what makes its result like `X`."""
        check_is_fitted(self)
        check_same_library(X, self, method)
        X, back = take(X)
        return self._valid_rows(X, reset=False), back

    def _valid_rows(self, X, reset):
        """`X` as a dense array or, if that is wanted, a CSR matrix, of its own dtype."""
        if issparse(X) and not self.accept_sparse:
            raise TypeError(
                f"Sparse data was passed for X, but {type(self).__name__} takes it only with "
                "accept_sparse=True: rows are then made dense a batch at a time."
            )
        accept_sparse = "csr" if self.accept_sparse else False
        return validate_data(self, X, reset=reset, accept_sparse=accept_sparse, dtype="numeric")

    def _embedded(self, X):
        with Workers() as workers:
            return _like(X, self._embedding().embed(X, workers))

    def _soft_assignment(self, X):
        with Workers() as workers:
            Z = self._embedding().embed(X, workers)
            return soft_assignment(Z, to_numpy(self.cluster_centers_), self._alpha, workers)

    def _labels(self, X):
        return self._soft_assignment(X).argmax(axis=1).astype(np.int32)

    # --- The stages of fit ---

    def _group(self) -> AbstractContextManager[Alone]:
        """Those who fit together: this process alone, unless the user asks for more."""
        if not self.distributed:
            return nullcontext(ALONE)
        check_can_be_distributed(self.get_params(deep=False))
        return ranks(resolve_device(self.device))

    def _of_all_ranks(self, X):
        """What has to be the same on all ranks, in words."""
        parameters = self.get_params(deep=False)
        parameters.pop("device", None)  # each rank may have another; a subclass may have none
        names = list(getattr(self, "feature_names_in_", []))
        of_data = {"number of features": X.shape[1], "dtype of X": X.dtype, "feature names": names}
        return words(parameters) | of_data

    def _plan(self, rows, device, group):
        """All settings of one fit, with every "auto" resolved for so many distinct rows."""
        n_rows, n_features = group.sum(len(rows.index)), rows.X.shape[1]
        checkpoint = self._open_checkpoint(rows)
        random_state = check_random_state(self.random_state)
        # Three draws, whatever the parameters: a sweep over n_clusters pretrains once.
        drawn = random_state.randint(2**31 - 1, size=3).tolist()
        pretrain_seed, init_seed, train_seed = group.first(lambda: checkpoint.seeds(drawn))
        pretraining = PretrainingSettings(
            stages=self.pretraining,
            with_decoder=self.reconstruction_weight > 0,
            layerwise_steps=_resolve(self.layerwise_steps, auto_steps(n_rows)),
            steps=_resolve(self.pretrain_steps, auto_steps(n_rows)),
            neighbor_steps=_resolve(self.neighbor_steps, auto_neighbor_steps(n_rows)),
            reconstruction_loss=self.reconstruction_loss,
            corruption=self.corruption,
            optimizer=OptimizerSettings(
                self.pretrain_optimizer,
                self.pretrain_learning_rate,
                self.pretrain_momentum,
                self.pretrain_decay,
            ),
            neighbor_learning_rate=self.neighbor_learning_rate,
            batch_size=self.batch_size,
            precision=self.precision,
            device=str(device),
            seed=pretrain_seed,
        )
        self_training = SelfTrainingSettings(
            alpha=self.alpha,
            target_distribution=self.target_distribution,
            clustering_weight=self.clustering_weight,
            reconstruction_weight=self.reconstruction_weight,
            reconstruction_loss=self.reconstruction_loss,
            optimizer=OptimizerSettings(self.optimizer, self.learning_rate, self.momentum),
            batch_size=self.batch_size,
            update_interval=_resolve(
                self.update_interval, auto_update_interval(n_rows, self.batch_size)
            ),
            max_iter=self.max_iter,
            tol=self.tol,
            precision=self.precision,
            seed=train_seed,
        )
        init, n_clusters = self.init, self.n_clusters
        if not isinstance(init, str) and not callable(init):
            init = check_init_centers(init, n_clusters, n_features)
            n_clusters = len(init)
        architecture = self._resolved_architecture(n_rows, n_features)
        return _Plan(
            architecture, pretraining, n_clusters, init, init_seed, self_training, checkpoint
        )

    def _neighborhoods(self, x, plan, n_workers, group) -> Neighborhoods:
        """Where neighbours are sought and how many, by the rows of all ranks."""
        if self.pretraining != "neighbors" and not _is_auto(plan.init):
            return PLAIN
        # The rows do not depend on n_clusters: pretraining must not.
        at = judged_rows(len(x), 1, plan.init_seed, group)
        some = group.to_first(partial(numpy_rows, x), at)
        n_rows = group.sum(len(x))
        seed = plan.init_seed

        def told(at):
            numbers = np.arange(len(at))
            hoods = neighborhoods(some, numbers, n_rows, seed, workers)
            return hoods.with_axes(some, numbers, seed)

        with Workers(n_workers) as workers:
            hoods = group.first(told, at)
        return hoods._replace(n_neighbors=_resolve(self.n_neighbors, hoods.n_neighbors))

    def _resolved_architecture(self, n_rows, n_features):
        hidden_dims = check_hidden_dims(_resolve(self.hidden_dims, auto_hidden_dims(n_rows)))
        return Architecture(
            n_features=n_features,
            embedding_dim=_resolve(self.embedding_dim, auto_embedding_dim()),
            hidden_dims=hidden_dims if self.autoencoder is None else (),
            activation=self.activation,
            batch_norm=self.batch_norm,
            weight_init=self.weight_init,
            factory=self.autoencoder,
        )

    def _open_checkpoint(self, rows):
        if self.checkpoint is None:
            return NO_CHECKPOINT
        fit = identity(self.get_params(deep=False), rows)
        return Checkpoint(self.checkpoint, self.checkpoint_interval, fit)

    def _scaling_kind(self):
        if self.scaling != "auto":
            return self.scaling
        return "range" if self.reconstruction_loss == "bce" else "center"

    def _pretrain(self, rows, scaling, x, weight, plan, n_workers, task: Task, group) -> Pretrained:
        # The rows may lie in a file: what is hashed is a digest, made block by block.
        not_hashed = ["X", "weight", "n_workers", "task", "checkpoint", "group"]
        cached = check_memory(self.memory).cache(pretrain, ignore=not_hashed)
        data = None if self.memory is None else (rows.digest(), scaling)
        try:
            return cached(
                X=x,
                weight=weight,
                architecture=plan.architecture,
                settings=plan.pretraining,
                n_workers=n_workers,
                hoods=plan.hoods,
                data=data,
                task=task,
                checkpoint=plan.checkpoint,
                group=group,
            )
        except PretrainingStopped as stopped:
            return stopped.pretrained

    def _initialize(self, run):
        """Initial centres, by a named `init` or as the best of several partitions."""
        scores, plan = [], run.plan
        if _is_auto(plan.n_clusters):
            scores = self._scores_by_number(run)
            plan = plan._replace(n_clusters=2 + int(np.argmax(scores)) if scores else 1)
            run = run._replace(plan=plan)
        if _is_auto(plan.init) and run.group.sum(len(run.x)) > plan.n_clusters > 1:
            initial = self._initialize_by_candidates(run)
        else:
            initial = self._initialize_by_name(run)
        return initial._replace(scores_by_number=scores)

    def _scores_by_number(self, run):
        """How well the rows fall into 2, 3, … clusters in the embedding."""
        at = judged_rows(len(run.x), 1, run.plan.init_seed, run.group)
        return run.group.first(
            lambda Z, weight: scores_by_number(Z, weight, run.plan.init_seed, run.workers),
            run.finite_embedding(at),
            run.rows.weight[at],
        )

    def _initialize_by_name(self, run):
        """Initial centres by a named `init`, or by k-means in the embedding."""
        rows, plan, embedding = run.rows, run.plan, run.embedding
        centers = run.group.first(
            lambda Z, weight: initial_centers(
                Z,
                weight,
                _resolve(plan.init, "k-means++"),
                plan.n_clusters,
                self.n_init,
                plan.init_seed,
                rows=lambda: rows.X[rows.index],
                embed=lambda centers: embedding.embed(centers, run.workers),
            ),
            run.finite_embedding(run.everywhere),
            rows.weight,
        )
        return _Initial(centers)

    def _initialize_by_candidates(self, run):
        """The best candidate, taken over by network and centres, or k-means if that fails."""
        plan, group, workers = run.plan, run.group, run.workers
        seed, autoencoder = plan.init_seed, run.embedding.autoencoder
        at = judged_rows(len(run.x), plan.n_clusters, seed, group)
        Z = run.finite_embedding(at)
        judged = group.to_first(partial(numpy_rows, run.x), at)
        nearest = run.nearest if len(at) == len(run.x) else None
        judge = group.first(
            lambda weight: input_judge(judged, weight, plan.hoods, seed, workers, nearest),
            run.rows.weight[at],
        )
        partition = group.first(
            lambda Z: best_partition(judge, Z, plan.n_clusters, self.n_init, seed, workers), Z
        )
        if partition is None:
            return self._initialize_by_name(run)
        before = weights_of(autoencoder)
        labels, taken = group.own(partition.labels, len(at)), at
        centers = group.first(lambda Z: weighted_means(Z, judge.weight, partition.labels), Z)
        if plan.hoods.by_hyperplanes:
            labels, taken, centers = self._with_borders(run, labels, at, centers)
        centers = run.take_over("alignment", labels, taken, centers)
        initial = _Initial(centers, at, judge, partition.scores, 0.0, weights_of(autoencoder))
        score, n_found = self._judge(run, initial, centers)
        if n_found < plan.n_clusters:
            _load(autoencoder, before)
            lost = next(iter(partition.scores))
            return self._initialize_by_name(run)._replace(lost=lost)
        return initial._replace(score=score)

    def _with_borders(self, run, labels, at, centers):
        """Labels of the rows `at` and of all at borders; which rows these are; the centres.

        Where there are more rows than `at`, the network tells the labels of the others.
        """
        hoods, labels = run.plan.hoods, labels.copy()
        if run.group.sum(len(at)) < run.group.sum(len(run.x)):
            centers = run.take_over("alignment of some", labels, at, centers)
            labels = self._assign(run, run.everywhere, centers)
        components = hoods.components(partial(numpy_rows, run.x), run.everywhere)
        places = hoods.places(components, run.plan.init_seed)
        moved, closest = at_borders(
            places, labels, run.plan.n_clusters, run.plan.init_seed, run.workers
        )
        labels[moved] = closest
        taken = np.union1d(at, moved)
        return labels[taken], taken, centers

    def _judge(self, run, initial, centers):
        """Score and number of the clusters that `predict` would give, up to rounding."""
        labels = self._assign(run, initial.judged, centers)
        return run.group.first(lambda all: (initial.judge.score(all), len(np.unique(all))), labels)

    def _assign(self, run, at, centers):
        """Labels of the rows `at`, as `predict` would give them, up to rounding."""
        return soft_assignment(run.embed(at), centers, self.alpha, run.workers).argmax(axis=1)

    def _self_train(self, run, initial, snapshot):
        """Self-training from the initial centres, if it does no harm."""
        trained = self_train(
            run.embedding.autoencoder,
            initial.centers,
            run.x,
            run.weight,
            run.plan.self_training,
            run.workers,
            run.task,
            snapshot,
            run.plan.checkpoint,
            run.group,
        )
        if initial.judge is not None and trained.kl_curve:
            trained = self._keep_better(run, initial, trained)
        return trained

    def _train_decoder(self, run, initial, trained):
        """Train the decoder to the final embedding, unless it has been; the loss of each epoch."""
        was_aligned = initial.judge is not None
        moved = was_aligned or (trained.kl_curve and not trained.undone)
        if self.reconstruction_weight or not (moved or self.pretraining == "neighbors"):
            return []
        return train_decoder(
            run.embedding.autoencoder,
            run.x,
            run.embedding.embed_scaled(run.x, run.workers),
            run.weight,
            run.plan.pretraining,
            run.workers,
            run.task,
            run.plan.checkpoint,
            run.group,
            run.plan.hoods,
        )

    def _keep_better(self, run, initial, trained):
        """Go back to the state before self-training if its clusters were clearly better."""
        score, _ = self._judge(run, initial, trained.centers)
        if score >= initial.score - SCORE_MARGIN:
            return trained
        _load(run.embedding.autoencoder, initial.weights)
        undone = f"their score went from {initial.score:.3f} to {score:.3f}"
        return replace(trained, centers=initial.centers, undone=undone)

    def _attributes(
        self,
        X,
        back,
        sample_weight,
        plan,
        pretrained,
        workers,
        embedding,
        initial,
        trained,
        decoder_curve=(),
        group=ALONE,
    ):
        """All fitted attributes, from the predict path."""
        Z = embedding.embed(X, workers)
        Q = soft_assignment(Z, trained.centers, self.alpha, workers)
        # Clusters without any row go last, so that the labels count up from 0.
        sizes = np.bincount(Q.argmax(axis=1), sample_weight > 0, len(trained.centers))
        found = group.sum(sizes) > 0
        order = np.argsort(~found, kind="stable")
        labels = Q[:, order].argmax(axis=1).astype(np.int32)
        centers = trained.centers[order]
        error = embedding.reconstruction_error(X, Z, sample_weight, workers)
        return dict(
            labels_=back(labels),
            cluster_centers_=back(_like(X, centers)),
            inertia_=group.sum(inertia(Z, centers, labels, sample_weight)),
            n_iter_=len(trained.kl_curve) + len(trained.setbacks),
            converged_=trained.converged,
            init_scores_=initial.scores or {},
            n_clusters_scores_=initial.scores_by_number,
            autoencoder_=embedding.autoencoder,
            hidden_dims_=plan.architecture.hidden_dims,
            device_=plan.pretraining.device,
            reconstruction_error_=group.mean(error, sample_weight.sum()),
            pretrain_loss_curve_=pretrained.loss_curve or list(decoder_curve),
            layerwise_loss_curves_=pretrained.layerwise_loss_curves,
            neighbor_loss_curve_=pretrained.neighbor_loss_curve,
            kl_curve_=trained.kl_curve,
            label_change_curve_=trained.label_change_curve,
            # What the predict path needs, as it was when the model was fitted.
            _architecture=plan.architecture._asdict(),
            _offset=back(embedding.scaling.offset),
            _scale=embedding.scaling.scale,
            _alpha=self.alpha,
            _decodes_logits=embedding.decodes_logits,
        )

    def _warn(self, n_found, initial, trained) -> None:
        """Say what a user of the result has to know."""
        problems = []
        if n_found < self.n_clusters_:
            problems.append(
                f"Number of distinct clusters ({n_found}) found smaller than n_clusters "
                f"({self.n_clusters_}). Possibly due to duplicate points in X."
            )
        if initial.lost:
            problems.append(
                f"The best initial partition ({initial.lost}) could not be taken over by network "
                "and centres: one of its clusters was lost. The initial centres are those of "
                "k-means in the embedding."
            )
        if trained.setbacks:
            problems.append(
                f"{len(trained.setbacks)} round(s) of self-training were undone: "
                f"{'; '.join(trained.setbacks)}. The state before each of them was restored, and "
                "training went on with a tenth of the learning rate, or ended after the third."
            )
        if trained.undone:
            problems.append(
                "Self-training made the clusters agree less with the neighbourhoods of the input: "
                f"{trained.undone}. The state before it was kept."
            )
        if self.max_iter and not (trained.converged or trained.stopped):
            problems.append(
                f"Self-training ended without converging, after {len(trained.kl_curve)} of "
                f"max_iter={self.max_iter} rounds: label_change_curve_ did not fall below "
                f"tol={self.tol}."
            )
        for problem in problems:
            # Past `fit` and scikit-learn's wrapper around it, to the line that called it.
            warnings.warn(problem, ConvergenceWarning, stacklevel=4)

    # --- State: parameters and plain arrays ---

    def _embedding(self) -> Embedding:
        scaling = Scaling(to_numpy(self._offset), self._scale)
        return Embedding(self.autoencoder_, scaling, self._decodes_logits)

    @property
    def n_clusters_(self):
        return self.cluster_centers_.shape[0]

    @property
    def _n_features_out(self):
        return self.cluster_centers_.shape[1]

    # The HTML display leads to the page of the class, wherever the project is documented.
    _doc_link_module = "skdec"

    @property
    def _doc_link_template(self):
        pages = _project_url("Documentation")
        return f"{pages.rstrip('/')}/generated/skdec.{{estimator_name}}.html" if pages else ""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.sparse = self.accept_sparse
        tags.array_api_support = DISPATCHES
        return tags

    def __getstate__(self):
        state = dict(pack(super().__getstate__()))
        if "autoencoder_" in state:
            state["autoencoder_"] = weights_of(self.autoencoder_)
        return state

    def __setstate__(self, state):
        super().__setstate__(unpack(state))
        if "autoencoder_" in state:
            device = available(self.device_)  # not always that of the fit
            self.device_ = str(device)
            architecture = Architecture(**self._architecture)
            self.autoencoder_ = architecture.load(state["autoencoder_"], device)


class _Initial(NamedTuple):
    """Where self-training starts; with ``init="auto"`` also how it came to be.

    `judged` are the numbers of the rows, of this rank, that `judge` judges by; `scores` are those
    of the candidates, `score` that of the centres and network as they are now, `weights` the
    network's. `lost` is the name of a candidate that was the best but could not be taken over.
    `scores_by_number` are those of 2 clusters, 3 and so on, if their number was sought.
    """

    centers: np.ndarray
    judged: np.ndarray | None = None
    judge: Judge | None = None
    scores: dict[str, float] | None = None
    score: float = 0.0
    weights: dict[str, np.ndarray] | None = None
    lost: str = ""
    scores_by_number: Sequence[float] = ()


class _Plan(NamedTuple):
    """Everything a fit will do, decided before it does anything."""

    architecture: Architecture
    pretraining: PretrainingSettings
    n_clusters: int | str
    init: str | np.ndarray | Callable
    init_seed: int
    self_training: SelfTrainingSettings
    checkpoint: NoCheckpoint
    hoods: Neighborhoods = PLAIN  # the rows have a say in these


class _Run(NamedTuple):
    """What the stages after pretraining have in common.

    `x` are the distinct `rows` as the network takes them, of which `weight` are the weights, and
    `nearest` the rows nearest to each, if pretraining has found them. The stages train the network
    of `embedding` in place.
    """

    rows: Rows
    x: Tensor | ScaledRows
    weight: Tensor
    plan: _Plan
    embedding: Embedding
    nearest: np.ndarray | None
    workers: Workers
    task: Task
    group: Alone

    @property
    def everywhere(self) -> np.ndarray:
        """Numbers of all rows."""
        return np.arange(len(self.x))

    def embed(self, at: np.ndarray) -> np.ndarray:
        """The rows `at` in the embedding."""
        return self.embedding.embed_scaled(_chosen(self.x, at), self.workers).cpu().numpy()

    def finite_embedding(self, at: np.ndarray) -> np.ndarray:
        """The same, refused if pretraining has diverged."""
        Z = self.embed(at)
        check_finite(Z, self.plan.pretraining)
        return Z

    def take_over(
        self, stage: str, labels: np.ndarray, at: np.ndarray, centers: np.ndarray
    ) -> np.ndarray:
        """Have network and centres give these labels to the rows `at`; the centres."""
        return align(
            self.embedding.autoencoder,
            centers,
            _chosen(self.x, at),
            _chosen(self.weight, at),
            labels,
            self.plan.self_training,
            self.workers,
            self.plan.checkpoint,
            self.group,
            stage,
            self.plan.hoods if self.plan.pretraining.stages == "neighbors" else PLAIN,
        )


def _chosen(x: Tensor | ScaledRows, at: np.ndarray) -> Tensor | ScaledRows:
    """The rows of `x` with these numbers, which rise."""
    if len(at) == len(x):
        return x
    return x.index_select(0, torch.from_numpy(at).to(x.device))


def _project_url(label: str) -> str:
    """An address under ``[project.urls]`` in pyproject.toml; "" if there is none."""
    try:
        urls = metadata("skdec").get_all("Project-URL", [])
    except PackageNotFoundError:  # run from a folder that is not installed
        return ""
    named = dict(url.split(", ", 1) for url in urls)
    return named.get(label, "")


def _load(module: torch.nn.Module, weights: dict[str, np.ndarray]) -> None:
    """Put `weights_of` a module back into it."""
    module.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})


def _resolve(value, auto):
    """`value`, or `auto` where it is "auto"."""
    return auto if _is_auto(value) else value


def _is_auto(value) -> bool:
    return isinstance(value, str) and value == "auto"


def _like(X: np.ndarray, result: np.ndarray) -> np.ndarray:
    """`result` in float32 if `X` is in float32, else in float64."""
    return result.astype(np.float32 if X.dtype == np.float32 else np.float64, copy=False)
